"""`prepare` as a whole, in a project of its own: what it writes, how it refuses, what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from yolo_folder import LINE, jpeg, make_yolo

from kd_steps.prepare import main

REPOSITORY = Path(__file__).parents[1]

needs_deeppcb = pytest.mark.skipif(
    "RETORT_DEEPPCB" not in os.environ, reason="RETORT_DEEPPCB names no DeepPCB folder (the real boards)"
)


def make_project(root: Path, kind: str, new_parts: dict[str, Any], **source: Any) -> Path:
    """A project whose params.yaml is the repository's, with another source."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["prepare"]["source"]["kind"] = kind
    params["prepare"]["source"][kind] |= source
    params["prepare"]["new_parts"] |= new_parts
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


def prepare(root: Path) -> str:
    """Run the stage here (its start-up as a process takes longer than the work); returns what it printed."""
    printed = StringIO()
    with chdir(root), redirect_stdout(printed):
        main()
    return printed.getvalue()


def set_unlabelled(root: Path, folder: Path | None) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["prepare"]["unlabelled"]["path"] = None if folder is None else str(folder)
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def start(root: Path) -> subprocess.Popen[str]:
    """Run the stage as DVC does, a process (group) of its own."""
    command = [sys.executable, "-m", "kd_steps.prepare"]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, cwd=root, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)


def yolo_project(root: Path, **held_out: Any) -> Path:
    make_yolo(root / "source")
    return make_project(root, "yolo", {"classes": [], "shots": 2} | held_out, path=str(root / "source"))


def files_of(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (root / "data").rglob("*") if path.is_file()}


def refused(root: Path) -> str:
    """The message of a `prepare` that must refuse its source and leave the earlier set alone."""
    before = files_of(root)
    with pytest.raises((ValueError, FileNotFoundError), match=r"source|params\.yaml") as caught:
        prepare(root)
    assert files_of(root) == before
    return str(caught.value)


def tables(root: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    prepared = root / "data/prepared"
    summary = json.loads((prepared / "dataset.json").read_text())
    return pd.read_parquet(prepared / "images.parquet"), pd.read_parquet(prepared / "boxes.parquet"), summary


def unlabelled_set(root: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    folder = root / "data/unlabelled"
    return pd.read_parquet(folder / "images.parquet"), json.loads((folder / "dataset.json").read_text())


def check_layout(root: Path) -> None:
    """The tables, the files, the labels and the summary tell the same."""
    pictures, boxes, summary = tables(root)
    prepared = root / "data/prepared"
    names = [*summary["classes"], *summary["new_classes"]]
    assert pictures["image_id"].is_unique
    assert pictures["split"].value_counts().to_dict() == {s: n for s, n in summary["images"].items() if n}
    files = {path.relative_to(prepared).as_posix() for path in (prepared / "images").rglob("*") if path.is_file()}
    assert files == set(pictures["path"])
    assert {path.parent.name for path in (prepared / "labels").rglob("*.txt")} <= set(pictures["split"])
    for row in pictures.itertuples():
        text = (prepared / "labels" / row.split / f"{row.image_id}.txt").read_text()
        own = boxes[boxes["image_id"] == row.image_id]
        assert len(own) == row.n_boxes == len(text.splitlines())
        assert [int(line.split()[0]) for line in text.splitlines()] == own["class_id"].tolist()
        assert [names[i] for i in own["class_id"]] == own["class_name"].tolist()
        assert (own["x2_px"] <= row.width_px).all()
        assert (own["y2_px"] <= row.height_px).all()
        if row.split in ("train", "val"):
            assert not own["is_new"].any()
    config = yaml.safe_load((prepared / "data.yaml").read_text())
    assert list(config["names"].values()) == summary["classes"]
    assert "path" not in config


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


def line_pictures(root: Path) -> Path:
    """A project's folder of pictures from the line, of which four are its own and four must not be taken."""
    folder, source = root / "line", root / "source/images"
    for place in ("monday/early", "monday/late", "tuesday"):
        (folder / place).mkdir(parents=True)
        (folder / place / "train0.jpg").write_bytes(jpeg(500 + len(place)))  # the number of a labelled picture
    (folder / "loose.PNG").write_bytes(encoded(jpeg(600), ".png"))
    (folder / "again.jpg").write_bytes((folder / "tuesday/train0.jpg").read_bytes())
    (folder / "trained.png").write_bytes(encoded((source / "train/train4.jpg").read_bytes(), ".png"))
    (folder / "tested.jpg").write_bytes((source / "test/test2.jpg").read_bytes())
    (folder / "validated.jpg").write_bytes(encoded((source / "val/val1.jpg").read_bytes(), ".jpg", brighter=3))
    (folder / "notes.txt").write_text("shift 2")
    return folder


def encoded(picture: bytes, suffix: str, brighter: int = 0) -> bytes:
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    done, data = cv2.imencode(suffix, cv2.add(pixels, np.full_like(pixels, brighter)))
    assert done
    return data.tobytes()


def test_unlabelled_pictures_stand_apart_without_labels_leaks_or_any_change_of_the_rest(tmp_path: Path) -> None:
    root = yolo_project(tmp_path)
    prepare(root)
    alone, nobody = files_of(root), unlabelled_set(root)
    assert (len(nobody[0]), nobody[1]["images"]) == (0, {"unlabelled": 0})
    folder = line_pictures(root)
    set_unlabelled(root, folder)
    printed = prepare(root)
    check_layout(root)
    whole = files_of(root)
    apart = {path for path in whole if root / "data/unlabelled" in path.parents}
    assert {path: whole[path] for path in whole.keys() - apart} == {
        path: data for path, data in alone.items() if root / "data/unlabelled" not in path.parents
    }, "a teacher learns from these: nothing of theirs may change"
    pictures, summary = unlabelled_set(root)
    assert summary["images"] == {"unlabelled": 4}
    assert pictures["n_boxes"].isna().all(), "a zero would say that somebody has looked"
    origins = {
        "unlabelled-again": "again.jpg",
        "unlabelled-loose": "loose.PNG",
        "unlabelled-monday-early-train0": "monday/early/train0.jpg",
        "unlabelled-monday-late-train0": "monday/late/train0.jpg",
    }
    line = pictures.set_index("image_id")
    assert set(line.index) == set(origins)
    written = {root / "data/unlabelled" / line.loc[image_id, "path"]: origins[image_id] for image_id in origins}
    assert set(written) == {path for path in apart if path.parent.name == "images"}
    for path, origin in written.items():
        assert path.read_bytes() == (folder / origin).read_bytes()
    said = "\n".join(summary["warnings"])
    assert "2 of 8 unlabelled pictures are the same as a validation, test or defect-free picture or nearly so" in said
    assert all(name in said and name in printed for name in ("tested.jpg", "validated.jpg"))
    assert "2 of 8 unlabelled pictures have the content of another picture and were left out" in said
    assert all(name in said for name in ("tuesday/train0.jpg", "trained.png"))

    prepare(root)
    assert files_of(root) == whole
    (folder / "loose.PNG").write_bytes(encoded(jpeg(601), ".png"))
    prepare(root)
    assert unlabelled_set(root)[1]["digest"] != summary["digest"]
    set_unlabelled(root, None)
    prepare(root)
    assert files_of(root) == alone


def break_a_line_picture(root: Path) -> None:
    path = root / "line/monday/early/train0.jpg"
    path.write_bytes(path.read_bytes()[:-300])


def empty_the_line(root: Path) -> None:
    for path in (root / "line").rglob("*.*"):
        if path.suffix != ".txt":
            path.unlink()


def move_the_line(root: Path) -> None:
    (root / "line").rename(root / "elsewhere")


def take_the_id_of_a_line_picture(root: Path) -> None:
    for kind, suffix in (("images", ".jpg"), ("labels", ".txt")):
        folder = root / "source" / kind / "train"
        (folder / f"train3{suffix}").rename(folder / f"unlabelled-loose{suffix}")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (break_a_line_picture, ["1 fault", "line/monday/early/train0.jpg: the picture is truncated"]),
        (empty_the_line, ["line: no pictures (.bmp, .jpeg,", "mend prepare.unlabelled.path in params.yaml"]),
        (move_the_line, ["line: no such folder; set prepare.unlabelled.path in params.yaml"]),
        (take_the_id_of_a_line_picture, ["line/loose.PNG and", "have the same id 'unlabelled-loose'"]),
    ],
)
def test_bad_unlabelled_pictures_are_refused(tmp_path: Path, damage: Any, told: list[str]) -> None:
    root = yolo_project(tmp_path)
    set_unlabelled(root, line_pictures(root))
    damage(root)
    message = refused(root)
    for part in told:
        assert part in message


def every_tenth_board(root: Path) -> Path:
    """The authors' layout with shorter lists, the pictures linked."""
    real = Path(os.environ["RETORT_DEEPPCB"]) / "PCBData"
    (root / "PCBData").mkdir(parents=True)
    for group in real.glob("group*"):
        (root / "PCBData" / group.name).symlink_to(group)
    for name in ("trainval.txt", "test.txt"):
        lines = (real / name).read_text().splitlines()
        (root / "PCBData" / name).write_text("\n".join(lines[::10]))
    return root


@needs_deeppcb
def test_deeppcb_with_pin_hole_held_out(tmp_path: Path) -> None:
    folder = every_tenth_board(tmp_path / "boards")
    root = make_project(tmp_path, "deeppcb", {"classes": ["pin-hole"], "shots": 10}, path=str(folder))
    assert "also trained on" in prepare(root)
    pictures, boxes, summary = tables(root)
    assert summary["new_classes"] == ["pin-hole"]
    assert summary["images"]["test"] == summary["images"]["defect_free"] == 50
    assert summary["images"]["train"] + summary["images"]["val"] == 100
    cut = pictures[pictures["split"].isin(["train", "val"])]
    assert cut.groupby("group")["split"].nunique().max() == 1
    assert boxes[boxes["is_new"]]["split"].unique().tolist() == ["test"]
    erased = cut[cut["path"].str.endswith(".png")].head(20)
    for row in erased.itertuples():
        base = folder / "PCBData" / f"group{row.group}"
        picture, template = (
            cv2.imread(str(base / row.group / f"{row.image_id}_{kind}.jpg")) for kind in ("test", "temp")
        )
        prepared = cv2.imread(str(root / "data/prepared" / row.path))
        mask = np.zeros(picture.shape[:2], dtype=bool)
        for line in (base / f"{row.group}_not" / f"{row.image_id}.txt").read_text().splitlines():
            x1, y1, x2, y2, kind = (int(word) for word in line.split())
            if kind == 6:
                assert (prepared[y1:y2, x1:x2] == template[y1:y2, x1:x2]).all()
                mask[max(0, y1 - 4) : y2 + 4, max(0, x1 - 4) : x2 + 4] = True
        assert (prepared[~mask] == picture[~mask]).all()
    shots = root / "data/new_parts/held_out"
    assert len(list((shots / "images").iterdir())) == 10
    assert all(any(line.startswith("5 ") for line in p.read_text().splitlines()) for p in (shots / "labels").iterdir())
