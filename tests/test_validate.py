"""Every check goes red on real damage, names the file, and stops the pipeline if it is critical."""

import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from prepared import (
    CLASSES,
    COUNTS,
    NEW_CLASSES,
    PROJECT,
    board,
    list_classes,
    write_part_set,
    write_project,
    write_unlabelled,
)
from validation_project import failure, replace_picture, run_here, save, set_params, tables

from kd_steps.artifacts import read_json

pytestmark = pytest.mark.slow

IMAGES, BOXES = "data/prepared/images", "data/prepared/labels"


def damage_base(root):
    """One fault a picture, all of them at once."""
    images, boxes = tables(root)
    folder = root / "data/prepared"

    def picture(image_id):
        return folder / images.set_index("image_id").loc[image_id, "path"]

    def label(image_id):
        return folder / "labels" / image_id.split("-")[0] / f"{image_id}.txt"

    def first_box(image_id):
        return boxes.index[boxes["image_id"] == image_id][0]

    picture("train-00000").write_bytes(picture("train-00000").read_bytes()[:-500])
    picture("train-00007").write_bytes(board(4711, (96, 65)))
    picture("val-00004").unlink()
    label("train-00002").write_text(label("train-00002").read_text().replace("0 0.25", "0 0.35", 1))
    label("train-00003").write_text("0 0.5 0.5 0.1\n")
    label("train-00004").write_text("0 0.5 nan 0.1 0.1\n")
    label("train-00005").write_text("9 0.5 0.5 0.1 0.1\n")
    label("train-00006").write_text("0 0.99 0.5 0.2 0.1\n")
    label("val-00000").unlink()
    boxes.loc[first_box("val-00001"), "x2_px"] = 96 + 20.0
    boxes.loc[first_box("val-00002"), "class_id"] = 7
    boxes.loc[first_box("val-00003"), "y2_px"] = boxes.loc[first_box("val-00003"), "y1_px"]
    boxes.loc[first_box("test-00001"), "x1_px"] = np.nan
    twice = boxes.loc[[first_box("test-00002")]]
    boxes.loc[first_box("train-00006"), ["class_id", "class_name"]] = [2, "tombstone"]
    images.loc[images["image_id"] == "defect_free-00000", "n_boxes"] = 1
    images.loc[images["image_id"] == "test-00005", "group"] = "board-train-00001"
    replace_picture(root, images, "test-00000", picture("train-00001").read_bytes())
    clear = cv2.imdecode(np.frombuffer(board(99, (96, 65)), np.uint8), cv2.IMREAD_COLOR)
    rgba = np.dstack([clear, np.full(clear.shape[:2], 255, np.uint8)])
    replace_picture(root, images, "test-00003", cv2.imencode(".png", rgba)[1].tobytes())
    near = cv2.imread(str(picture("train-00001"))) + 3
    replace_picture(root, images, "test-00004", cv2.imencode(".jpg", near)[1].tobytes())
    save(root, images, pd.concat([boxes, twice], ignore_index=True))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A damaged project after a run of its own process: its verdict and how the process ended."""
    root = write_project(
        tmp_path_factory.mktemp("damaged"), {"train": 9, "val": 5, "test": 7, "defect_free": 3}, (96, 65)
    )
    for token in ("base", "new_parts"):
        (root / "data/validated").mkdir(parents=True, exist_ok=True)
        (root / f"data/validated/{token}.json").write_text('{"passed": true}')
    damage_base(root)
    ended = subprocess.run(
        [sys.executable, "-m", "kd_steps.validate"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (root / "metrics/validation.json").exists(), ended.stderr
    return root, read_json(root / "metrics/validation.json"), ended


@pytest.mark.parametrize(
    ("suite", "column", "severity", "files", "said"),
    [
        ("images", "picture_fault", "critical", ["train/train-00000.jpg", "val/val-00004.jpg"], "truncated"),
        ("images", "record_fault", "critical", ["train/train-00007.jpg"], "sha256"),
        ("images", "content_twin", "critical", ["train/train-00001.jpg", "test/test-00000.jpg"], "train-00001.jpg"),
        ("images", "near_twin", "warning", ["train/train-00001.jpg", "test/test-00000.jpg", "test/test-00004.jpg"], ""),
        ("images", "group_elsewhere", "warning", ["train/train-00001.jpg", "test/test-00005.jpg"], "train"),
        ("images", "channels", "critical", ["test/test-00003.jpg"], "channels 4"),
        ("images", "n_boxes", "critical", ["defect_free/defect_free-00000.jpg"], "n_boxes 1"),
        ("boxes", "overhang_px", "critical", ["val/val-00001.txt"], "overhang_px 20"),
        ("boxes", "listed_class_name", "critical", ["val/val-00002.txt"], "val-00002"),
        ("boxes", "box_height_px", "critical", ["val/val-00003.txt"], "box_height_px 0"),
        ("boxes", "x1_px", "critical", ["test/test-00001.txt"], "nan"),
        ("boxes", "twin_iou", "critical", ["test/test-00002.txt"], "twin_iou 1"),
        ("boxes", "class_name", "critical", ["train/train-00006.txt"], "tombstone"),
    ],
)
def test_damage_is_found_and_named(damaged, suite, column, severity, files, said):
    found = failure(damaged[1], suite, column, severity)
    folder = IMAGES if suite == "images" else BOXES
    if column == "near_twin":  # equal content is told once, as a content twin
        files = ["test/test-00004.jpg"]
    assert set(found["files"]) >= {f"{folder}/{file}" for file in files}
    assert len(found["files"]) == found["n_files"] <= len(files) + (column == "near_twin")
    assert said in found["message"]
    assert found["mend"]


@pytest.mark.parametrize(
    ("image_id", "said"),
    [
        ("train-00002", "the file says class 0 at 0.3500"),
        ("train-00003", "line 1: found 4 numbers"),
        ("train-00004", "line 1: 'nan' is not a finite number"),
        ("train-00005", "line 1: class 9 is out of range"),
        ("train-00006", "line 1: the box reaches outside"),
        ("val-00000", "there is no such label file"),
    ],
)
def test_label_faults_name_file_and_line(damaged, image_id, said):
    found = failure(damaged[1], "images", "label_fault", "critical")
    split = image_id.split("-")[0]
    assert f"{BOXES}/{split}/{image_id}.txt: {said}" in found["message"]


def test_critical_failure_stops_with_the_files_and_leaves_no_token(damaged):
    root, found, ended = damaged
    assert ended.returncode == 1
    assert not found["passed"]
    assert "data/prepared/images/train/train-00000.jpg" in ended.stderr
    assert "mend:" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list((root / "data/validated").glob("*.json"))
    assert "train-00000.jpg" in (root / "report/data_docs/summary.html").read_text()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound project whose short sides Ultralytics' loader rounds up, after a run."""
    root = write_project(tmp_path_factory.mktemp("sound"), {**COUNTS, "unlabelled": 5}, (96, 65))
    with pytest.MonkeyPatch.context() as patch:
        stopped = run_here(root, patch)
    assert stopped is None
    return root


def test_sound_set_passes_and_named_difference_is_said(sound):
    found = read_json(sound / "metrics/validation.json")
    assert found["passed"]
    assert [s["evaluated"] > 0 for s in found["suites"].values()] == [True] * 4
    assert found["counts"]["images_without_objects"] == {"defect_free": 3}
    assert found["counts"]["images"]["unlabelled"] == 5
    assert [f["column"] for f in found["suites"]["images"]["failures"]] == [], (
        "no labels are expected of unlabelled ones"
    )
    named = [f for f in found["suites"]["parity"]["failures"] if f["column"] == "largest_difference"]
    assert [f["severity"] for f in named] == ["warning"]
    assert all(f["column"] != "unexplained_difference" for f in found["suites"]["parity"]["failures"])
    assert read_json(sound / "data/validated/base.json")["dataset_digest"] == "d" * 64


def test_pages_need_no_network_and_suites_are_not_rewritten(sound):
    pages = [*(sound / "report/data_docs").rglob("*.html"), *(sound / "report/data_docs").rglob("*.css")]
    assert len(pages) > 8
    for page in pages:
        text = page.read_text()
        for fetched in ('<script src="http', '<img src="http', "url('http", "url(http", "cdn.", "amazonaws.com"):
            assert fetched not in text, page
    for suite in (PROJECT / "expectations").iterdir():
        assert (sound / "expectations" / suite.name).read_bytes() == suite.read_bytes()
    assert len(list((sound / "expectations").iterdir())) == 4


def test_new_parts_leave_the_base_token_as_it_is(sound, tmp_path, monkeypatch):
    root = shutil.copytree(sound, tmp_path / "more")
    list_classes(root, [*CLASSES, *NEW_CLASSES, "raised", "whisker"])
    with (root / "data/classes/retort.csv").open("a") as ledger:
        ledger.write("3,renamed,lifted,2026-11-30,test\n4,withdrawn,whisker,2026-11-30,test\n")
    write_part_set(root / "data/new_parts/line/lot-7", [*CLASSES, "raised"], shots=5, first_seed=500)
    write_part_set(root / "data/new_parts/line/lot-8", ["whisker"], shots=2, first_seed=600)
    assert run_here(root, monkeypatch) is None
    base, parts = "data/validated/base.json", "data/validated/new_parts.json"
    assert (root / base).read_bytes() == (sound / base).read_bytes()
    assert (root / parts).read_bytes() != (sound / parts).read_bytes()
    assert read_json(root / parts)["classes"] == [*NEW_CLASSES, "lifted"], "by number, under the present name"
    said = read_json(root / "metrics/validation.json")
    assert said["counts"]["new_part_shots"] == {"lifted": 5, "tombstone": 6}
    assert any(w.startswith("2 objects of withdrawn classes in data/new_parts were left out") for w in said["warnings"])


def test_a_ledger_that_changes_a_line_of_the_last_release_is_refused(sound, tmp_path, monkeypatch):
    root = shutil.copytree(sound, tmp_path / "renumbered")
    released = root / "metrics/released/retort.csv"
    released.parent.mkdir()
    ledger = root / "data/classes/retort.csv"
    shutil.copyfile(ledger, released)
    ledger.write_text(ledger.read_text().replace("bridge", "?").replace("missing", "bridge").replace("?", "missing"))
    with pytest.raises(ValueError, match=r"entry 1 was number 0 added as 'bridge' .* now .* 'missing' .*from git"):
        run_here(root, monkeypatch)
    assert not (root / "data/validated/base.json").exists(), "no old verdict counts"


def test_unlabelled_pictures_leave_the_base_token_as_it_is(sound, tmp_path, monkeypatch):
    root = shutil.copytree(sound, tmp_path / "fewer")
    write_unlabelled(root / "data/unlabelled", 2, (96, 65), seed=40)
    assert run_here(root, monkeypatch) is None
    assert read_json(root / "metrics/validation.json")["counts"]["images"]["unlabelled"] == 2
    base = "data/validated/base.json"  # the teacher's training depends on it
    assert (root / base).read_bytes() == (sound / base).read_bytes()


def test_drift_wrong_fill_and_bad_new_parts(tmp_path, monkeypatch):
    root = write_project(tmp_path / "p", size_px=(96, 60))
    set_params(root, "preprocessing", letterbox_fill=100)  # Ultralytics fills with 114 whatever is asked
    images, boxes = tables(root)
    for row in images[images["split"] == "val"].itertuples():
        pixels = cv2.imread(str(root / "data/prepared" / row.path))
        lighter = cv2.add(pixels, np.full_like(pixels, 90))
        replace_picture(root, images, row.image_id, cv2.imencode(".jpg", lighter)[1].tobytes())
    images = images[images["split"] != "defect_free"]
    save(root, images, boxes[(boxes["split"] != "test") | (boxes["class_name"] != "missing")])
    line = root / "data/new_parts/line"
    list_classes(root, [*CLASSES, *NEW_CLASSES, "lifted", "never_shot"])
    write_part_set(line / "c", ["unheard", "of it"], shots=1, first_seed=950)
    write_part_set(line / "a", [*CLASSES, "lifted", "never_shot"], shots=3, first_seed=700)
    (line / "a/labels/shot-0.txt").write_text("3 0.5 0.5\n")
    (line / "a/labels/shot-1.txt").write_text("2 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.1\n")
    (line / "a/labels/shot-2.txt").write_text("2 0.5 0.5 0.1 0.1\n")
    (line / "a/labels/shot-9.txt").write_text("")
    shutil.copyfile(root / IMAGES / "test/test-00000.jpg", line / "a/images/shot-2.jpg")
    write_part_set(line / "b", ["x"], shots=1, first_seed=800)
    (line / "b/data.yaml").write_text("names: 3\n")
    (line / "loose").mkdir()
    (line / "loose/photo.jpg").write_bytes(board(900, (96, 96)))

    stopped = run_here(root, monkeypatch)

    assert stopped is not None
    found = read_json(root / "metrics/validation.json")["suites"]
    drift = [f for f in found["images"]["failures"] if f["expectation"] == "expect_group_means_to_stay_near_reference"]
    assert {(f["column"], f["severity"]) for f in drift} >= {("brightness", "warning"), ("brightness", "critical")}
    assert all("val" in f["message"] and "test" not in f["message"].split("Not so")[1] for f in drift)
    untested = [f for f in found["boxes"]["failures"] if f["severity"] == "critical"]
    assert [f["message"].endswith("missing: 0") for f in untested] == [True]
    parity = {f["column"]: f for f in found["parity"]["failures"] if f["severity"] == "critical"}
    assert "letterbox_fill: 100 against 114" in parity["contract_difference"]["message"]
    assert parity["unexplained_difference"]["files"]
    parts = {(f["column"], f["severity"]): f for f in found["new_parts"]["failures"]}
    sets = parts["set_fault", "critical"]
    assert {f"data/new_parts/line/{name}" for name in ("b", "c", "loose")} == set(sets["files"])
    assert "data.yaml names 'unheard', 'of it', which data/classes/retort.csv does not list" in sets["message"]
    assert "`retort classes add unheard 'of it'`" in sets["message"]
    labels = parts["label_fault", "critical"]["message"]
    assert "shot-0.txt: line 1: found 3 numbers" in labels
    assert "shot-9.txt: there is no picture" in labels
    assert parts["twin_iou", "critical"]["files"] == ["data/new_parts/line/a/images/shot-1.jpg"]
    assert parts["test_twin", "critical"]["files"] == ["data/new_parts/line/a/images/shot-2.jpg"]
    assert "never_shot: 0" in parts["class_name", "critical"]["message"]


def test_a_model_with_a_coarser_level_is_refused_by_its_key(tmp_path, monkeypatch):
    root = write_project(tmp_path / "p", size_px=(96, 60))
    set_params(root, "train_teacher", model="yolov8n-p6.yaml")
    monkeypatch.chdir(root)
    with pytest.raises(ValueError, match=r"train_teacher\.model: its coarsest level has a stride of 64 px"):
        run_here(root, monkeypatch)


def test_missing_prepared_set_is_told(tmp_path, monkeypatch):
    root = write_project(tmp_path / "p")
    (root / "data/prepared/dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"dataset\.json"):
        run_here(root, monkeypatch)
