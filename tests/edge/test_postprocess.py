"""NMS against torchvision, decoding, and the distance of raw outputs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from kd_steps.edge.postprocess import MAX_CANDIDATES, class_aware_nms, decode, output_errors, xyxy_of_cxcywh


def random_boxes(seed, count):
    """Corners on a grid of quarters: exact in float32, so that torchvision's shift of classes loses no bit."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 160, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 120, (count, 2))], axis=1) / 4
    scores = rng.choice(np.linspace(0.1, 0.9, max(count // 2, 1)), count)  # ties are meant
    return boxes.astype(np.float32), scores.astype(np.float32), rng.integers(0, 3, count)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 200),
    iou=st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.6, 0.7, 1.0]),
    max_detections=st.integers(1, 250),
)
def test_nms_is_torchvisions(seed, count, iou, max_detections):
    boxes, scores, classes = random_boxes(seed, count)
    mine = class_aware_nms(boxes, scores, classes, iou, max_detections)
    oracle = batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(classes), iou)
    # torchvision leaves the order of equal scores open; ours is by index.
    oracle = sorted(oracle.tolist(), key=lambda i: (-scores[i], i))[:max_detections]
    assert mine.tolist() == oracle


def test_nms_keeps_order_of_index_among_equal_scores():
    boxes = np.array([[0, 0, 1, 1], [5, 5, 6, 6], [0, 0, 1, 1]], np.float32)
    kept = class_aware_nms(boxes, np.full(3, 0.5, np.float32), np.zeros(3, np.int64), 0.5, 10)
    assert kept.tolist() == [0, 1]


def test_overlapping_boxes_of_two_classes_both_stay():
    boxes = np.array([[0, 0, 9, 9]] * 2, np.float32)
    kept = class_aware_nms(boxes, np.array([0.4, 0.8], np.float32), np.array([0, 1]), 0.5, 10)
    assert kept.tolist() == [1, 0]


def test_anchors_are_decoded_with_every_class_that_reaches_the_confidence():
    output = np.zeros((1, 4 + 2, 3), np.float32)
    output[0, :4] = np.array([[10, 10, 4, 6], [50, 50, 10, 10], [10, 10, 4, 6]]).T
    output[0, 4:, 0] = (0.9, 0.3)
    output[0, 4:, 1] = (0.1, 0.25)
    output[0, 4:, 2] = (0.8, 0.0)  # the same box of the same class, weaker
    found = decode(output, "anchors", confidence=0.25, iou=0.5, max_detections=10)
    assert found.boxes_xyxy_px.tolist() == [[8, 7, 12, 13], [8, 7, 12, 13], [45, 45, 55, 55]]
    assert np.allclose(found.scores, [0.9, 0.3, 0.25])
    assert found.class_ids.tolist() == [0, 1, 1]
    assert len(decode(output, "anchors", confidence=0.25, iou=0.5, max_detections=1)) == 1


def test_end2end_rows_are_filtered_and_ordered():
    rows = np.array([[[0, 0, 1, 1, 0.2, 1], [2, 2, 3, 3, 0.9, 0], [4, 4, 5, 5, 0.5, 2]]], np.float32)
    found = decode(rows, "end2end", confidence=0.3, iou=0.5, max_detections=10)
    assert found.class_ids.tolist() == [0, 2]
    assert found.boxes_xyxy_px.tolist() == [[2, 2, 3, 3], [4, 4, 5, 5]]


@pytest.mark.parametrize(("output_format", "shape"), [("anchors", (1, 7, 20)), ("end2end", (1, 20, 6))])
def test_nothing_found_has_the_right_shapes(output_format, shape):
    found = decode(np.zeros(shape, np.float32), output_format, confidence=0.1, iou=0.5, max_detections=9)
    assert (found.boxes_xyxy_px.shape, found.scores.shape, found.class_ids.shape) == ((0, 4), (0,), (0,))


def test_corners_of_centres():
    assert xyxy_of_cxcywh(np.array([[5, 6, 2, 4]], np.float32)).tolist() == [[4, 4, 6, 8]]


def test_error_of_anchors_is_in_shares_of_the_input():
    expected = np.zeros((1, 6, 4), np.float32)
    found = expected.copy()
    found[0, 0, 1], found[0, 5, 2] = 32, 0.25
    assert output_errors(found, expected, "anchors", 64).tolist() == [0, 0.5, 0.25, 0]


def end2end_rows(seed, count=20):
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.random((count, 4)) * 64, rng.random((count, 1)), rng.integers(0, 2, (count, 1))], axis=1)
    return rows[np.argsort(-rows[:, 4])].astype(np.float32)


@given(seed=st.integers(0, 1000))
def test_error_of_end2end_forgives_a_swap_and_a_row_that_falls_off_the_edge(seed):
    expected = end2end_rows(seed)
    swapped = expected.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert output_errors(swapped[None], expected[None], "end2end", 64).max() == 0
    replaced = expected.copy()
    replaced[-1, :4] += 20
    assert output_errors(replaced[None], expected[None], "end2end", 64).max() == 0


@given(seed=st.integers(0, 1000))
def test_error_of_end2end_sees_a_moved_box_a_raised_score_and_another_class(seed):
    expected = end2end_rows(seed)
    for column, value in ((0, 640), (5, 7)):
        found = expected.copy()
        found[0, column] = value
        assert output_errors(found[None], expected[None], "end2end", 64).max() > 0.1
    raised = expected.copy()
    raised[:, 4] = 1
    assert output_errors(raised[None], expected[None], "end2end", 64).max() > 0.1


def test_a_number_that_is_none_is_an_infinite_error_and_another_shape_an_error():
    expected = np.zeros((1, 6, 4), np.float32)
    assert output_errors(np.full_like(expected, np.nan), expected, "anchors", 64).max() == np.inf
    with pytest.raises(ValueError, match="shape"):
        output_errors(expected[:, :, :2], expected, "anchors", 64)


def test_end2end_keeps_the_best_and_those_on_the_threshold():
    rows = np.array([[[0, 0, 1, 1, 0.5, 1], [2, 2, 3, 3, 0.9, 0], [4, 4, 5, 5, 0.7, 2]]], np.float32)
    assert len(decode(rows, "end2end", confidence=0.5, iou=0.5, max_detections=10)) == 3
    assert decode(rows, "end2end", confidence=0.5, iou=0.5, max_detections=2).class_ids.tolist() == [0, 2]


def test_error_of_end2end_sees_a_detection_that_is_gone():
    expected = end2end_rows(0)
    found = expected.copy()
    found[0] = found[-1]
    errors = output_errors(found[None], expected[None], "end2end", 64)
    assert errors.shape == (40,)
    assert errors[:20].max() == 0
    assert errors[20] > 0.1


def test_error_of_end2end_is_in_shares_of_the_input():
    expected = end2end_rows(0)
    expected[:, 4] = np.linspace(1, 0, 20)
    found = expected.copy()
    found[0, 2] += 3.2
    assert output_errors(found[None], expected[None], "end2end", 64).max() == pytest.approx(0.05)


def test_when_too_many_boxes_reach_the_confidence_the_best_enter_nms():
    count = MAX_CANDIDATES + 100
    output = np.zeros((1, 5, count), np.float32)
    output[0, :2], output[0, 2:4] = np.arange(count) * 10, 4
    output[0, 4] = np.linspace(0.1, 0.9, count)
    found = decode(output, "anchors", confidence=0.05, iou=0.5, max_detections=3)
    assert np.allclose(found.scores, output[0, 4, :-4:-1])
