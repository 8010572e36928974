import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.core.synthetic.board_layout import draw_fault, lay_out_board
from kd_steps.core.synthetic.boards import Board
from kd_steps.core.synthetic.components import FAULT_CLASSES, SHIFTED, TOMBSTONE, carriers


def laid_out(seed: int, size_px: int, faults: list[str]) -> Board:
    return lay_out_board(np.random.default_rng(seed), size_px, faults, design_seed=1, exposure_seed=2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(64, 512), st.lists(st.sampled_from(FAULT_CLASSES), max_size=5))
def test_parts_lie_apart_and_boxes_inside(seed: int, size_px: int, faults: list[str]) -> None:
    board = laid_out(seed, size_px, faults)
    assert board.parts
    yards = [part.courtyard_px for part in board.parts]
    for i, yard in enumerate(yards):
        assert min(yard.x1, yard.y1) >= 0
        assert max(yard.x2, yard.y2) <= size_px
        assert not any(yard.overlaps(other) for other in yards[i + 1 :])
    boxes = board.boxes_xyxy_px
    assert len(boxes) == len(board.class_names) <= len(faults)
    assert (boxes >= 0).all()
    assert (boxes <= size_px).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 16).all()
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert not ((a[:2] < b[2:]).all() and (b[:2] < a[2:]).all())


@pytest.mark.parametrize("fault_class", FAULT_CLASSES)
@pytest.mark.parametrize("size_px", [64, 74, 256])
def test_a_single_fault_always_finds_room(fault_class: str, size_px: int) -> None:
    for seed in range(20):
        assert laid_out(seed, size_px, [fault_class]).class_names == (fault_class,)


@pytest.mark.parametrize("size_px", [64, 90, 130, 256])
def test_the_first_fault_asked_for_is_always_there(size_px: int) -> None:
    for seed in range(30):
        assert TOMBSTONE in laid_out(seed, size_px, [TOMBSTONE, *FAULT_CLASSES[:5]]).class_names


def test_five_faults_nearly_always_find_room_at_256_px() -> None:
    found = [len(laid_out(seed, 256, list(FAULT_CLASSES[:5])).class_names) for seed in range(40)]
    assert np.mean(found) > 4.8


def test_the_same_generator_gives_the_same_board_and_another_another() -> None:
    assert laid_out(5, 256, list(FAULT_CLASSES)) == laid_out(5, 256, list(FAULT_CLASSES))
    assert laid_out(5, 256, list(FAULT_CLASSES)) != laid_out(6, 256, list(FAULT_CLASSES))


def test_larger_pictures_show_more_parts_at_one_scale() -> None:
    few, many = laid_out(0, 256, []), laid_out(0, 512, [])
    assert 6 <= len(few.parts) <= 14
    assert len(many.parts) > 3 * len(few.parts)


def test_a_shift_is_beyond_the_placer_s_tolerance() -> None:
    rng = np.random.default_rng(0)
    kind = carriers(SHIFTED)[0]
    for _ in range(50):
        assert abs(draw_fault(rng, kind, SHIFTED).angle_deg) > 10
    harmless = [abs(p.jitter_deg) for seed in range(5) for p in laid_out(seed, 256, []).parts]
    assert max(harmless) < 2


def test_too_small_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 64 px, got 63"):
        laid_out(0, 63, [])
