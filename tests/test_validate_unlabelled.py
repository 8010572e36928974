"""Pictures without labels are held to all that labelled ones are, but for labels."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from prepared import COUNTS, board, write_project
from validation_project import failure, replace_picture, run_here, tables

from kd_steps.artifacts import read_json

pytestmark = pytest.mark.slow


def test_unlabelled_pictures_are_held_to_all_but_labels(tmp_path, monkeypatch):
    root = write_project(tmp_path / "p", {**COUNTS, "unlabelled": 7}, (96, 65))
    folder, (labelled, _) = "data/unlabelled", tables(root)
    images = pd.read_parquet(root / folder / "images.parquet")

    def path(image_id):
        return root / folder / images.set_index("image_id").loc[image_id, "path"]

    def labelled_path(image_id):
        return root / "data/prepared" / labelled.set_index("image_id").loc[image_id, "path"]

    def brighter(picture):
        pixels = cv2.imread(str(picture))
        return cv2.imencode(".jpg", cv2.add(pixels, np.full_like(pixels, 3)))[1].tobytes()

    path("unlabelled-00000").write_bytes(path("unlabelled-00000").read_bytes()[:-500])
    replace_picture(root, images, "unlabelled-00001", labelled_path("test-00001").read_bytes(), folder)
    for number, other in ((2, "defect_free-00000"), (3, "train-00000"), (4, "val-00000")):
        replace_picture(root, images, f"unlabelled-0000{number}", brighter(labelled_path(other)), folder)
    clear = cv2.imdecode(np.frombuffer(board(99, (96, 65)), np.uint8), cv2.IMREAD_COLOR)
    rgba = np.dstack([clear, np.full(clear.shape[:2], 255, np.uint8)])
    replace_picture(root, images, "unlabelled-00005", cv2.imencode(".png", rgba)[1].tobytes(), folder)
    images.loc[images["image_id"] == "unlabelled-00006", "group"] = "board-test-00002"
    images.to_parquet(root / folder / "images.parquet")

    assert run_here(root, monkeypatch) is not None

    found = read_json(root / "metrics/validation.json")
    expected = {
        "picture_fault": ("critical", ["unlabelled-00000"]),
        "content_twin": ("critical", ["test-00001", "unlabelled-00001"]),
        "near_twin": ("warning", ["defect_free-00000", "unlabelled-00002", "unlabelled-00004", "val-00000"]),
        "channels": ("critical", ["unlabelled-00005"]),
        "group_elsewhere": ("warning", ["test-00002", "unlabelled-00006"]),
    }
    for column, (severity, files) in expected.items():
        assert sorted(Path(f).stem for f in failure(found, "images", column, severity)["files"]) == files
    assert {f["column"] for f in found["suites"]["images"]["failures"]} == set(expected)
