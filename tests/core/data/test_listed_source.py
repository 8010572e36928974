"""A source through the ledger: as it is where nothing changed, and without what was withdrawn."""

from datetime import date

import numpy as np
import pytest

from kd_steps.core.data.ledger import Ledger, LedgerError
from kd_steps.core.data.listed_source import held_out_in_service, listed_source, unlisted_message
from kd_steps.core.data.source import SourceImage, SourceSet

DAY = date(2026, 11, 29)
LEDGER = Ledger().add(["a", "b", "c"], DAY, "first")
FILE = "data/classes/demo.csv"


def image(*names: str) -> SourceImage:
    boxes = np.arange(4.0 * len(names)).reshape(-1, 4)
    return SourceImage("-".join(names) or "good", "board", None, ".png", bytes, boxes, names, "labels.txt")


SOURCE = SourceSet((image("b", "a", "b"), image("c"), image()), ("a", "b", "c"), ("mind the gap",))


def test_a_source_whose_ledger_follows_its_order_is_left_as_it_is():
    found = listed_source(SOURCE, LEDGER, FILE)
    assert (found.classes, found.warnings, found.faults) == (SOURCE.classes, SOURCE.warnings, ())
    for was, now in zip(SOURCE.images, found.images, strict=True):
        assert (now.class_names, now.unsure) == (was.class_names, False)
        assert np.array_equal(now.boxes_xyxy_px, was.boxes_xyxy_px)
        assert now.boxes_xyxy_px.shape == was.boxes_xyxy_px.shape


def test_objects_of_withdrawn_classes_are_left_out_and_counted():
    found = listed_source(SOURCE, LEDGER.withdraw("b", DAY, "x"), FILE)
    assert found.classes == ("a", "c")
    assert [i.class_names for i in found.images] == [("a",), ("c",), ()]
    assert found.images[0].boxes_xyxy_px.tolist() == [[4, 5, 6, 7]]
    assert [i.unsure for i in found.images] == [True, False, False], "a picture that shows it is not defect-free"
    assert found.warnings == ("mind the gap", f"2 objects of 'b' were left out: {FILE} has it withdrawn")


def test_two_names_of_one_class_are_one_column_and_columns_follow_numbers():
    ledger = Ledger().add(["c", "b", "x"], DAY, "first").rename("x", "a", DAY, "mended")
    source = SourceSet((image("a", "x", "c"),), ("a", "x", "b", "c"))
    found = listed_source(source, ledger, FILE)
    assert found.classes == ("c", "b", "a")
    assert found.images[0].class_names == ("a", "a", "c")


def test_unlisted_and_all_withdrawn_classes_are_refused():
    with pytest.raises(LedgerError, match=r"the source names 'b', 'c', which data/classes/demo\.csv does not list"):
        listed_source(SOURCE, Ledger().add(["a"], DAY, "x"), FILE)
    gone = LEDGER.withdraw("a", DAY, "x")
    with pytest.raises(LedgerError, match="every class of the source is withdrawn"):
        listed_source(SourceSet((image("a"),), ("a",)), gone, FILE)
    assert "`retort classes add 'pin hole' b`" in unlisted_message("data.yaml", ["pin hole", "b"], FILE)


def test_held_out_classes_come_by_number_and_unknown_ones_stay_for_their_own_message():
    ledger = LEDGER.add(["d"], DAY, "x").rename("a", "A", DAY, "x").withdraw("b", DAY, "x")
    assert held_out_in_service(["typo", "d", "a", "b"], ledger) == ["A", "d", "typo"]
