"""Measurements on hand-made tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.data.boxes import CORNERS, xyxy_to_yolo
from kd_steps.core.data.yolo_labels import Labels, format_yolo
from kd_steps.core.validation.data_tables import boxes_table, label_fault, with_box_measures


def rows(*boxes, size_px=(100, 50), names=None):
    table = pd.DataFrame(boxes, columns=CORNERS, dtype=float)
    return table.assign(
        path="p", class_name=names or ["a"] * len(table), width_px=float(size_px[0]), height_px=float(size_px[1])
    )


def test_box_measures():
    table = with_box_measures(rows((10, 10, 20, 15), (90, 40, 103, 50), (-2, 0, 5, 0)))
    assert table["overhang_px"].tolist() == [0, 3, 2]
    assert table["box_height_px"].tolist() == [5, 10, 0]
    assert table["short_side_px"].tolist() == [5, 10, 0]


def test_twins_are_of_one_class_and_picture():
    twins = with_box_measures(rows((0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 5), names=["a", "b", "a"]))
    assert twins["twin_iou"].tolist() == pytest.approx([0.5, 0, 0.5])


def test_nan_is_measured_as_nan_not_as_fine():
    table = with_box_measures(rows((np.nan, 0, 5, 5)))
    assert table["box_width_px"].isna().all()


def test_empty_tables_keep_their_columns():
    assert {"twin_iou", "overhang_px"} <= set(with_box_measures(rows()).columns)


def test_boxes_of_unknown_pictures_and_classes_have_no_size_and_no_name():
    boxes = rows((0, 0, 5, 5), (0, 0, 5, 5))[CORNERS].assign(
        image_id=["known", "lost"], split="train", class_id=[1, 2], class_name="b"
    )
    images = pd.DataFrame({"image_id": ["known"], "path": ["p"], "width_px": [10], "height_px": [10]})
    table = boxes_table(boxes, images, ["a", "b"], Path("data/prepared"))
    assert table["width_px"].isna().tolist() == [False, True]
    assert table["listed_class_name"].tolist()[0] == "b"
    assert pd.isna(table["listed_class_name"].tolist()[1])


SHARE = st.floats(0.05, 0.4)


def test_objects_in_one_column_agree_though_their_shares_round_apart():
    """392 + 402 and 389 + 405 have one centre, 0.49625, which as text and back is not the same number to the bit."""
    corners = np.array([[392, 100, 402, 140], [389, 300, 405, 350]], dtype=np.float64)
    ids = np.zeros(2, dtype=np.int64)
    text = format_yolo(Labels(ids, xyxy_to_yolo(corners, 800, 600)))
    for order in ([0, 1], [1, 0]):
        assert label_fault(text, ids, corners[order], (800, 600), 1) is None


@given(
    st.lists(st.tuples(st.integers(0, 2), SHARE, SHARE, SHARE, SHARE), max_size=6), st.randoms(use_true_random=False)
)
def test_a_written_label_file_agrees_with_its_table_in_any_order(objects, random):
    corners = [(x * 640, y * 480, (x + w) * 640, (y + h) * 480) for _, x, y, w, h in objects]
    class_ids, corners = np.array([k for k, *_ in objects], dtype=np.int64), np.array(corners).reshape(-1, 4)
    shuffled = random.sample(objects, len(objects))
    boxes = np.array([(x + w / 2, y + h / 2, w, h) for _, x, y, w, h in shuffled]).reshape(-1, 4)
    text = format_yolo(Labels(np.array([k for k, *_ in shuffled], dtype=np.int64), boxes))
    assert label_fault(text, class_ids, corners, (640, 480), 3) is None
    if objects:
        assert "objects" in str(label_fault(text, class_ids[1:], corners[1:], (640, 480), 3))
        assert "the boxes table" in str(label_fault(text, class_ids, corners + np.array([0, 0, 1, 0]), (640, 480), 3))
