"""`prepare` as a whole, in a project of its own: what it writes, how it refuses, what a kill leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from prepare_project import REPOSITORY, check_layout, make_project, prepare, refused, tables, yolo_project
from prepared import list_classes
from yolo_folder import LINE, jpeg, make_yolo

from kd_steps.artifacts import DatasetCard

pytestmark = pytest.mark.slow


def start(root: Path) -> subprocess.Popen[str]:
    """Run the stage as DVC does, a process (group) of its own."""
    command = [sys.executable, "-m", "kd_steps.prepare"]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, cwd=root, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_yolo_source_keeps_bytes_splits_and_labels(tmp_path: Path) -> None:
    root = yolo_project(tmp_path)
    prepare(root)
    check_layout(root)
    pictures, boxes, summary = tables(root)
    assert summary["images"] == {"train": 12, "val": 3, "test": 4, "defect_free": 0}
    assert summary["source"] == "yolo"
    for row in pictures.itertuples():
        original = root / "source/images" / row.split / f"{row.image_id}.jpg"
        assert (root / "data/prepared" / row.path).read_bytes() == original.read_bytes()
    np.testing.assert_allclose(boxes[["x1_px", "y1_px", "x2_px", "y2_px"]], [[24, 24, 40, 40]] * 19)
    assert yaml.safe_load((root / "data/new_parts/held_out/data.yaml").read_text())["names"] == {
        0: "scratch",
        1: "dent",
    }
    assert not list((root / "data/new_parts/held_out/images").iterdir())


def test_the_same_source_gives_the_same_bytes_and_line_is_left_alone(tmp_path: Path) -> None:
    root = yolo_project(tmp_path, classes=["dent"])
    (root / "data/new_parts/line").mkdir(parents=True)
    (root / "data/new_parts/line/mine.txt").write_text("the user's")
    contents = []
    for _ in range(2):
        prepare(root)
        contents.append({path: path.read_bytes() for path in (root / "data").rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    assert contents[0][root / "data/new_parts/line/mine.txt"] == b"the user's"
    assert {path.name for path in root.iterdir()} == {"source", "params.yaml", "data", ".retort"}
    assert not list((root / ".retort").iterdir())


def test_a_class_held_out_without_templates_leaves_its_pictures_out(tmp_path: Path) -> None:
    root = yolo_project(tmp_path, classes=["dent"])
    assert "they were left out of the base set" in prepare(root)
    check_layout(root)
    _, boxes, summary = tables(root)
    assert (summary["classes"], summary["new_classes"]) == (["scratch"], ["dent"])
    assert summary["images"] == {"train": 6, "val": 1, "test": 4, "defect_free": 0}
    assert set(boxes[boxes["split"] == "test"]["class_name"]) == {"scratch", "dent"}
    shots = list((root / "data/new_parts/held_out/labels").iterdir())
    assert len(shots) == 2
    assert all(path.read_text().startswith("1 ") and path.stem.startswith("train") for path in shots)


def test_drawn_boards_forget_the_held_out_class(tmp_path: Path) -> None:
    boards = {"train_boards": 16, "test_boards": 12, "defect_free_boards": 4, "image_size_px": 96}
    root = make_project(tmp_path, "synthetic", {"classes": ["tombstone"], "shots": 3}, **boards)
    prepare(root)
    check_layout(root)
    pictures, boxes, summary = tables(root)
    assert summary["new_classes"] == ["tombstone"]
    assert set(boxes[boxes["is_new"]]["split"]) == {"test"}
    assert len(list((root / "data/new_parts/held_out/images").iterdir())) == 3
    assert summary["images"]["train"] + summary["images"]["val"] == 19
    assert pictures.groupby("group")["split"].nunique().max() == 1


def shown(root: Path, split: str) -> dict[str, int]:
    boxes = tables(root)[1]
    return boxes[boxes["split"] == split]["class_name"].value_counts().to_dict()


def test_a_class_that_the_ledger_does_not_list_is_refused_with_the_command(tmp_path: Path) -> None:
    root = yolo_project(tmp_path)
    list_classes(root, ["dent"])
    told = refused(root)
    assert "the source names 'scratch', which data/classes/retort.csv does not list" in told
    assert "`retort classes add scratch`" in told
    (root / "data/classes/retort.csv").unlink()
    assert "'retort' has no ledger of classes yet; `retort classes add --from-source`" in refused(root)


def test_columns_follow_the_ledgers_numbers_and_files_tell_both(tmp_path: Path) -> None:
    root = yolo_project(tmp_path)
    list_classes(root, ["whisker", "dent", "scratch"])
    prepare(root)
    check_layout(root)
    card = DatasetCard.read(root / "data/prepared/dataset.json")
    assert [(known.name, known.number) for known in card.classes] == [("dent", 1), ("scratch", 2)]
    assert (card.task, card.new_classes) == ("detect", ())


def test_a_withdrawn_class_has_no_column_and_its_pictures_stay(tmp_path: Path) -> None:
    root = yolo_project(tmp_path, classes=["dent"])
    prepare(root)
    before = shown(root, "test")
    with (root / "data/classes/retort.csv").open("a") as ledger:
        ledger.write("1,withdrawn,dent,2026-11-30,test\n")
    assert "10 objects of 'dent' were left out: data/classes/retort.csv has it withdrawn" in prepare(root)
    check_layout(root)
    _, _, summary = tables(root)
    assert (summary["classes"], summary["new_classes"]) == (["scratch"], [])
    assert summary["images"] == {"train": 12, "val": 3, "test": 4, "defect_free": 0}, "none counts as defect-free"
    assert before["dent"]
    assert shown(root, "test") == {"scratch": before["scratch"]}


def test_a_renamed_class_keeps_its_labels_whatever_the_source_calls_it(tmp_path: Path) -> None:
    root = yolo_project(tmp_path, classes=["dent"])
    prepare(root)
    before = tables(root)[2]
    with (root / "data/classes/retort.csv").open("a") as ledger:
        ledger.write("0,renamed,deep scratch,2026-11-30,test\n1,renamed,bump,2026-11-30,test\n")
    prepare(root)
    check_layout(root)
    after = tables(root)[2]
    assert (after["classes"], after["new_classes"]) == (["deep scratch"], ["bump"])
    assert after["digest"] == before["digest"]


def break_jpeg(source: Path) -> None:
    path = source / "images/train/train3.jpg"
    path.write_bytes(path.read_bytes()[:-300])


def break_labels(source: Path) -> None:
    (source / "labels/train/train3.txt").write_text(LINE + "0 0.5 0.5 0.1\n0 nan 0.5 0.1 0.1\n")
    (source / "labels/val/val0.txt").write_text("7 0.5 0.5 0.1 0.1\n0 0.98 0.5 0.1 0.1\n")


def delete_a_label(source: Path) -> None:
    (source / "labels/train/train3.txt").unlink()


def delete_a_picture(source: Path) -> None:
    (source / "images/train/train3.jpg").unlink()


def copy_train_to_test(source: Path) -> None:
    (source / "images/test/test0.jpg").write_bytes((source / "images/train/train3.jpg").read_bytes())


def re_encode_train_in_test(source: Path) -> None:
    pixels = cv2.imread(str(source / "images/train/train3.jpg"))
    cv2.imwrite(str(source / "images/test/again.png"), pixels)
    (source / "labels/test/again.txt").write_text(LINE)


def empty_the_train_split(source: Path) -> None:
    for path in [*source.glob("images/train/*"), *source.glob("labels/train/*")]:
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (break_jpeg, ["train3.jpg: the picture is truncated", "copy it again"]),
        (
            break_labels,
            [
                "4 faults",
                "train3.txt, line 2: found 4 numbers",
                "train3.txt, line 3: 'nan' is not a finite number",
                "val0.txt, line 1: class 7 is out of range",
                "val0.txt, line 2: the box reaches outside",
            ],
        ),
        (delete_a_label, ["train3.jpg", "an empty .txt file says 'no objects'"]),
        (delete_a_picture, ["train3.txt", "restore the picture, or delete the file"]),
        (copy_train_to_test, ["train3.txt (train)", "test0.txt (test)", "same picture in two splits; delete one"]),
        (re_encode_train_in_test, ["again.txt (test)", "train3.txt (train)", "same picture in two splits"]),
        (empty_the_train_split, ["the train split is empty", "train list"]),
    ],
)
def test_bad_input_is_refused_and_the_earlier_set_stays(tmp_path: Path, damage: Any, told: list[str]) -> None:
    root = yolo_project(tmp_path)
    prepare(root)
    damage(root / "source")
    message = refused(root)
    for part in told:
        assert part in message


def test_its_workers_say_nothing(tmp_path: Path) -> None:
    """Only its own words and progress reach a person, however many processes help."""
    root = yolo_project(tmp_path)
    for number in range(100):
        (root / "source/images/train" / f"more{number}.jpg").write_bytes(jpeg(1000 + number))
        (root / "source/labels/train" / f"more{number}.txt").write_text(LINE)
    process = start(root)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "119/119" in errors
    assert "Warning" not in errors


def test_as_a_process_it_refuses_without_a_traceback(tmp_path: Path) -> None:
    root = yolo_project(tmp_path)
    break_jpeg(root / "source")
    process = start(root)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: 1 fault in the source, nothing was changed" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("kind", "new_parts", "told"),
    [
        ("yolo", {"classes": ["dents"]}, "names ['dents'], which the source does not have; it has: scratch, dent"),
        ("yolo", {"classes": ["dent"], "shots": 50}, "asks for 50 pictures of 'dent', the train split has 6"),
        ("voc", {"classes": []}, "prepare.source.voc.images is null; set it"),
    ],
)
def test_bad_parameters_name_their_key(tmp_path: Path, kind: str, new_parts: dict[str, Any], told: str) -> None:
    make_yolo(tmp_path / "source")
    source = {"path": str(tmp_path / "source")} if kind == "yolo" else {}
    assert told in refused(make_project(tmp_path, kind, new_parts, **source))


def test_killed_in_the_middle_the_earlier_set_stays_and_the_next_run_finishes(tmp_path: Path) -> None:
    root = yolo_project(tmp_path)
    prepare(root)
    before = (root / "data/prepared/dataset.json").read_text()
    for number in range(200):
        (root / "source/images/train" / f"more{number}.jpg").write_bytes(jpeg(1000 + number, 320))
        (root / "source/labels/train" / f"more{number}.txt").write_text(LINE)
    process = start(root)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(root.glob(".retort/prepare/incoming/*"))) < 20:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (root / "data/prepared/dataset.json").read_text() == before
    prepare(root)
    assert tables(root)[2]["images"]["train"] == 212
    check_layout(root)
