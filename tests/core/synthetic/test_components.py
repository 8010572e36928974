import pytest

from kd_steps.core.synthetic.components import (
    FAULT_CLASSES,
    PART_KINDS,
    TOMBSTONE,
    PartKind,
    Rect,
    bounding,
    carriers,
    centred,
    pins_in_rows,
)


def test_at_least_five_fault_classes_besides_tombstone() -> None:
    assert len(set(FAULT_CLASSES) - {TOMBSTONE}) >= 5
    assert len(set(FAULT_CLASSES)) == len(FAULT_CLASSES)


@pytest.mark.parametrize("fault_class", FAULT_CLASSES)
def test_every_fault_has_a_part_that_fits_the_smallest_picture(fault_class: str) -> None:
    smallest_picture_mm = 60 / 20
    extents = [
        max(k.courtyard_mm.x2 - k.courtyard_mm.x1, k.courtyard_mm.y2 - k.courtyard_mm.y1) for k in carriers(fault_class)
    ]
    assert min(extents) < smallest_picture_mm


def test_an_unknown_fault_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'scratch'.*solder_bridge"):
        carriers("scratch")


@pytest.mark.parametrize("kind", PART_KINDS)
def test_pads_of_a_part_do_not_overlap_and_the_courtyard_holds_everything(kind: PartKind) -> None:
    for i, pad in enumerate(kind.pads_mm):
        assert not any(pad.overlaps(other) for other in kind.pads_mm[i + 1 :])
    yard = kind.courtyard_mm
    assert bounding(yard, kind.body_mm, kind.outline_mm, *kind.pads_mm) == yard


def test_pins_of_a_row_run_from_left_to_right() -> None:
    for kind in PART_KINDS:
        if kind.look == "ic":
            rows = pins_in_rows(kind)
            assert sorted([*rows[0], *rows[1]]) == list(range(len(kind.pads_mm)))
            for row in rows:
                xs = [kind.pads_mm[i].centre[0] for i in row]
                assert xs == sorted(xs)
                assert len({kind.pads_mm[i].centre[1] for i in row}) == 1


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Rect(1, 1, 3, 3), True),
        (Rect(2, 0, 4, 2), False),  # they share an edge, no area
        (Rect(-5, -5, 5, 5), True),
        (Rect(5, 5, 6, 6), False),
    ],
)
def test_overlap(other: Rect, expected: bool) -> None:
    rect = Rect(0, 0, 2, 2)
    assert rect.overlaps(other) is expected
    assert other.overlaps(rect) is expected


def test_rectangles_grow_on_all_sides() -> None:
    assert centred(1, 2, 4, 2).grown(0.5) == Rect(-1.5, 0.5, 3.5, 3.5)
