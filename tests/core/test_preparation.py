import numpy as np
import pytest

from kd_steps.core.preparation import picture_faults
from kd_steps.core.records import SourceImage


def image(told_wh_px: tuple[int, int] | None) -> SourceImage:
    boxes = np.array([[5.0, 40, 25, 55]])
    return SourceImage("a", "a", None, ".jpg", bytes, boxes, ("dent",), "a.json", told_wh_px=told_wh_px)


@pytest.mark.parametrize("told", [None, (60, 100)])
def test_a_picture_of_the_size_it_was_annotated_at_is_right(told: tuple[int, int] | None) -> None:
    assert picture_faults(image(told), 60, 100) == []


def test_a_picture_that_was_turned_since_it_was_annotated_is_told() -> None:
    """Its box would lie inside, but elsewhere."""
    (fault,) = picture_faults(image((100, 60)), 60, 100)
    assert fault.startswith("a.json: it was made on a picture of 100 × 60 px, but this one is displayed at 60 × 100 px")
