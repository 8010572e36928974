import numpy as np
import pytest

from kd_steps.core.synthetic.boards import Board, Fault, PlacedPart, fault_box_px, rotation, shifted_body_mm
from kd_steps.core.synthetic.components import (
    BRIDGE,
    INSUFFICIENT,
    MISSING,
    PX_PER_MM,
    SHIFTED,
    WRONG_POLARITY,
    PartKind,
    Rect,
    carriers,
)


def placed(kind: PartKind, fault: Fault | None, quarter_turns: int = 0) -> PlacedPart:
    return PlacedPart(kind, (100.0, 60.0), quarter_turns, (0.0, 0.0), 0.0, 0.5, 7, fault)


def test_quarter_turns_are_exact() -> None:
    assert rotation(90).tolist() == [[0, -1], [1, 0]]
    assert (rotation(360) == np.eye(2)).all()


def test_a_part_turned_once_swaps_its_extents_and_moves_plus_x_down() -> None:
    kind = carriers(WRONG_POLARITY)[0]
    mark = kind.mark_mm
    assert mark is not None
    flat, upright = placed(kind, None).to_picture(mark), placed(kind, None, 1).to_picture(mark)
    assert flat.x1 > 100
    assert upright.y1 > 60
    assert upright.x2 - upright.x1 == pytest.approx(flat.y2 - flat.y1)


@pytest.mark.parametrize("quarter_turns", range(4))
def test_a_bridge_box_holds_its_two_pins_and_no_third(quarter_turns: int) -> None:
    kind = carriers(BRIDGE)[-1]
    part = placed(kind, Fault(BRIDGE, pads=(0, 1)), quarter_turns)
    box = fault_box_px(part)
    inside = []
    for pad in kind.pads_mm:
        x, y = part.to_picture(pad).centre
        inside.append(box.x1 < x < box.x2 and box.y1 < y < box.y2)
    assert inside == [True, True] + [False] * (len(kind.pads_mm) - 2)


def test_a_poor_joint_gets_the_box_of_its_own_pad() -> None:
    kind = carriers(INSUFFICIENT)[0]
    left = fault_box_px(placed(kind, Fault(INSUFFICIENT, pads=(0,))))
    right = fault_box_px(placed(kind, Fault(INSUFFICIENT, pads=(1,))))
    assert left.x2 < right.x1
    pad = kind.pads_mm[0]
    assert left.x2 - left.x1 == pytest.approx((pad.x2 - pad.x1) * PX_PER_MM + 4)


def test_a_shifted_box_holds_pads_and_the_moved_body() -> None:
    kind = carriers(SHIFTED)[0]
    part = placed(kind, Fault(SHIFTED, offset_mm=(0.2, 0.3), angle_deg=30))
    box = fault_box_px(part)
    corners_px = shifted_body_mm(part) * PX_PER_MM + part.centre_px
    assert (corners_px > [box.x1, box.y1]).all()
    assert (corners_px < [box.x2, box.y2]).all()
    still = fault_box_px(placed(kind, Fault(MISSING)))
    assert box.y2 > still.y2 + 5


def test_a_turn_keeps_the_body_s_size() -> None:
    part = placed(carriers(SHIFTED)[0], Fault(SHIFTED, angle_deg=23))
    corners = shifted_body_mm(part)
    body = part.kind.body_mm
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(body.x2 - body.x1)
    assert np.linalg.norm(corners[2] - corners[1]) == pytest.approx(body.y2 - body.y1)


def test_no_fault_no_box() -> None:
    part = placed(carriers(MISSING)[0], None)
    with pytest.raises(ValueError, match="no fault"):
        fault_box_px(part)
    board = Board(256, (part,), 1, 2)
    assert board.boxes_xyxy_px.shape == (0, 4)
    assert board.class_names == ()


def test_boxes_and_classes_keep_one_order_and_the_template_has_neither() -> None:
    kind = carriers(MISSING)[0]
    faults = [Fault(MISSING), None, Fault(SHIFTED, angle_deg=20)]
    board = Board(256, tuple(placed(kind, fault, i) for i, fault in enumerate(faults)), 1, 2)
    assert board.class_names == (MISSING, SHIFTED)
    assert Rect(*board.boxes_xyxy_px[0]) == fault_box_px(board.parts[0])
    template = board.without_faults()
    assert template.class_names == ()
    assert [p.centre_px for p in template.parts] == [p.centre_px for p in board.parts]
