import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.data.boxes import box_fault, clip, covered_share, xyxy_to_yolo, yolo_to_xyxy

side = st.integers(1, 4000)


@given(width=side, height=side, corners=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_notations_round_trip(width: int, height: int, corners: list[float]) -> None:
    x, y = sorted(corners[:2]), sorted(corners[2:])
    boxes = np.array([[x[0] * width, y[0] * height, x[1] * width, y[1] * height]])
    back = yolo_to_xyxy(xyxy_to_yolo(boxes, width, height), width, height)
    np.testing.assert_allclose(back, boxes, atol=1e-9 * max(width, height))


def test_notation_of_a_known_box() -> None:
    np.testing.assert_allclose(xyxy_to_yolo(np.array([[10.0, 20.0, 30.0, 60.0]]), 100, 200), [[0.2, 0.2, 0.2, 0.2]])
    assert yolo_to_xyxy(np.zeros((0, 4)), 10, 10).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ([0, 0, 100, 50], None),
        ([-0.4, 0, 100.4, 50], None),
        ([float("nan"), 0, 5, 5], "not a finite number"),
        ([0, 0, float("inf"), 5], "not a finite number"),
        ([5, 0, 5, 5], "no area"),
        ([0, 9, 5, 5], "no area"),
        ([0, 0, 101, 50], "reaches outside the picture of 100 × 50 px"),
        ([-1, 0, 10, 50], "reaches outside"),
        ([0, 50, 10, 50.4], "reaches outside"),  # rounding is forgiven, but nothing of it is inside
    ],
)
def test_faults_of_a_box(box: list[float], told: str | None) -> None:
    fault = box_fault(np.array(box, dtype=np.float64), 100, 50)
    assert (fault is None) if told is None else (fault is not None and told in fault)


def test_clip_cuts_at_the_edges() -> None:
    np.testing.assert_array_equal(clip(np.array([[-0.4, 1, 100.4, 50.2]]), 100, 50), [[0, 1, 100, 50]])


def test_covered_share_is_of_the_worst_single_cover() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    covers = np.array([[0.0, 0, 5, 10], [5, 0, 10, 8]])
    np.testing.assert_allclose(covered_share(boxes, covers), [0.5, 0])
    np.testing.assert_array_equal(covered_share(boxes, np.zeros((0, 4))), [0, 0])
