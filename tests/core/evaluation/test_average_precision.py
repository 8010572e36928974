from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from detection_tables import random_tables, repeated
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.core.data.boxes import iou_matrix
from kd_steps.core.evaluation.average_precision import (
    average_precision,
    false_alarms,
    mean_ap,
    precision_recall,
    ratio,
    resample_boards,
    resample_images,
)
from kd_steps.core.evaluation.matching import match_detections

CLASSES = [0, 1, 2]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_counted_picture_is_a_copied_picture(seed: int) -> None:
    truth, found, image_ids = random_tables(seed)
    counts = resample_images(len(image_ids), 2, np.random.default_rng(seed))
    ap = average_precision(match_detections(truth, found, image_ids, CLASSES), counts)
    for sample, drawn in enumerate(counts):
        copies = average_precision(match_detections(*repeated(truth, found, image_ids, drawn), CLASSES))
        np.testing.assert_allclose(ap[sample], copies[0], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_precision_lies_in_the_unit_interval_and_never_rises_with_recall_or_iou(seed: int) -> None:
    truth, found, image_ids = random_tables(seed)
    matches = match_detections(truth, found, image_ids, CLASSES)
    ap = average_precision(matches)[0]
    known = ap[~np.isnan(ap[:, 0])]
    assert ((known >= 0) & (known <= 1)).all()
    assert (np.diff(known, axis=1) <= 1e-12).all()
    for class_index in range(3):
        curve = precision_recall(matches, class_index)
        if matches.n_objects[:, class_index].sum():
            assert (np.diff(curve) <= 0).all()
            assert curve.mean() == pytest.approx(ap[class_index, 0])
        else:
            assert np.isnan(curve).all()


def test_an_engine_against_itself_has_the_ratio_one_in_every_resample() -> None:
    truth, found, image_ids = random_tables(11, n_images=40)
    matches = match_detections(truth, found, image_ids, CLASSES)
    counts = resample_images(len(image_ids), 100, np.random.default_rng(0))
    maps = mean_ap(average_precision(matches, counts))
    assert (ratio(maps, maps) == 1).all()
    assert maps.std() > 0


def test_perfect_detections_score_one() -> None:
    truth, _, image_ids = random_tables(3)
    matches = match_detections(truth, truth.assign(score=0.5), image_ids, CLASSES)
    np.testing.assert_array_equal(average_precision(matches)[0], 1.0)


def test_an_object_is_hit_once() -> None:
    truth = pd.DataFrame([("a", 0, 0, 0, 10, 10)], columns=["image_id", "class_id", "x1_px", "y1_px", "x2_px", "y2_px"])
    twice = pd.concat([truth.assign(score=0.6), truth.assign(score=0.9)])
    matches = match_detections(truth, twice, ["a"], [0])
    assert matches.scores.tolist() == [0.9, 0.6]
    assert matches.hits.all(axis=1).tolist() == [True, False]


def test_resamples_keep_the_number_of_pictures_and_follow_the_seed() -> None:
    counts = resample_images(30, 50, np.random.default_rng(4))
    assert (counts.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(counts, resample_images(30, 50, np.random.default_rng(4)))
    assert resample_images(0, 5, np.random.default_rng(4)).shape == (5, 0)


def test_pictures_of_a_board_are_drawn_together() -> None:
    boards = ["b", "a", "b", "c", "a", "b"]
    counts = resample_boards(boards, 200, np.random.default_rng(4))
    assert counts.shape == (200, 6)
    assert (counts[:, [0, 2, 5]] == counts[:, [0]]).all()
    assert (counts[:, [1, 4]] == counts[:, [1]]).all()
    assert (counts[:, 0] + counts[:, 1] + counts[:, 3] == 3).all()
    assert len({tuple(row) for row in counts.tolist()}) > 5


def test_a_ratio_to_nothing_is_unknown() -> None:
    np.testing.assert_array_equal(
        ratio(np.array([1.0, 1.0, np.nan, 1.0]), np.array([2.0, 0.0, 1.0, np.nan])), [0.5, np.nan, np.nan, np.nan]
    )


def test_false_alarms_count_from_the_operating_confidence_on_and_keep_silent_boards() -> None:
    detections = pd.DataFrame({"image_id": ["a", "a", "a", "b", "z"], "score": [0.25, 0.9, 0.24, 0.1, 0.9]})
    assert false_alarms(detections, ["a", "b", "c"], 0.25).tolist() == [2, 0, 0]


@given(
    st.lists(st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(1, 30)] * 2), min_size=1, max_size=6),
)
def test_iou_is_symmetric_one_with_itself_and_bounded(sides: list[tuple[int, int, int, int]]) -> None:
    xywh = np.array(sides, dtype=np.float64)
    boxes_xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    ious = iou_matrix(boxes_xyxy, boxes_xyxy)
    np.testing.assert_allclose(ious, ious.T)
    np.testing.assert_allclose(np.diag(ious), 1)
    assert ((ious >= 0) & (ious <= 1)).all()


def test_iou_of_an_empty_box_is_zero() -> None:
    assert iou_matrix(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]
