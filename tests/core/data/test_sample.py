"""Prepared tables as labelled pictures."""

from pathlib import Path

import numpy as np
import pandas as pd

from kd_steps.core.data.sample import labelled_images

IMAGES = pd.DataFrame(
    [
        {
            "image_id": "p",
            "split": "train",
            "path": "images/train/p.png",
            "width_px": 200,
            "height_px": 100,
            "sha256": "c",
        },
        {
            "image_id": "q",
            "split": "train",
            "path": "images/train/q.png",
            "width_px": 64,
            "height_px": 64,
            "sha256": "a",
        },
        {"image_id": "r", "split": "val", "path": "images/val/r.png", "width_px": 64, "height_px": 64, "sha256": "b"},
        {
            "image_id": "u",
            "split": "unlabelled",
            "path": "images/unlabelled/u.png",
            "width_px": 64,
            "height_px": 64,
            "sha256": "d",
        },
    ]
)
BOXES = pd.DataFrame(
    [
        {"image_id": "p", "split": "train", "class_id": 1, "x1_px": 20.0, "y1_px": 10.0, "x2_px": 60.0, "y2_px": 90.0},
        {"image_id": "p", "split": "train", "class_id": 0, "x1_px": 0.0, "y1_px": 0.0, "x2_px": 200.0, "y2_px": 100.0},
    ]
)


def test_boxes_are_shares_of_the_sides_and_pictures_come_by_digest():
    empty, full = labelled_images(IMAGES, BOXES, Path("root"), "train")
    assert (empty.digest, full.digest) == ("a", "c")
    assert full.path == Path("root/images/train/p.png")
    assert full.size_wh_px == (200, 100)
    assert full.class_ids.tolist() == [1, 0]
    assert np.allclose(full.boxes_xywh, [[0.2, 0.5, 0.2, 0.8], [0.5, 0.5, 1, 1]])
    assert full.boxes_xywh.dtype == np.float32
    assert empty.boxes_xywh.shape == (0, 4)
    assert empty.class_ids.dtype == np.int64


def test_order_of_the_table_and_names_of_files_do_not_count():
    again = labelled_images(IMAGES[::-1], BOXES, Path("root"), "train")
    assert [image.digest for image in again] == ["a", "c"]


def test_a_split_without_pictures_is_empty():
    assert labelled_images(IMAGES, BOXES, Path("root"), "test") == []


def test_no_objects_means_two_things():
    (free,), (empty,) = (labelled_images(IMAGES, BOXES, Path("root"), split) for split in ("unlabelled", "val"))
    assert (free.labelled, empty.labelled) == (False, True)
    assert free.class_ids.shape == empty.class_ids.shape == (0,)
    assert all(image.labelled for image in labelled_images(IMAGES, BOXES, Path("root"), "train"))
