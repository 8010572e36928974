from dataclasses import replace

import numpy as np
import pytest

from kd_steps.core.data.plan import contradictions, picture_faults
from kd_steps.core.data.source import PictureFacts, SourceImage


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


def test_copies_of_a_picture_with_other_objects_contradict_each_other() -> None:
    two = replace(
        image(None), boxes_xyxy_px=np.array([[5.0, 40, 25, 55], [1, 2, 3, 4]]), class_names=("dent", "scratch")
    )
    turned = replace(two, origin="b.json", boxes_xyxy_px=two.boxes_xyxy_px[::-1] + 0.3, class_names=("scratch", "dent"))
    other_class = replace(two, origin="c.json", class_names=("dent", "dent"))
    moved = replace(two, origin="d.json", boxes_xyxy_px=two.boxes_xyxy_px + 1)
    bare = replace(two, origin="e.json", boxes_xyxy_px=np.zeros((0, 4)), class_names=())
    unlooked = replace(bare, origin="f.json", split="unlabelled")
    facts = [PictureFacts("s", "p", 60, 100, 3, 0, 1.0, 1.0)] * 6
    faults = contradictions([two, turned, other_class, moved, bare, unlooked], facts)
    assert [fault.split()[0] for fault in faults] == ["c.json", "d.json", "e.json"]
    assert faults[0] == "c.json and a.json are the same picture with different objects; mend or delete one of them"
    apart = [replace(fact, pixel_hash=str(i)) for i, fact in enumerate(facts)]
    assert contradictions([two, turned, other_class, moved, bare, unlooked], apart) == []
