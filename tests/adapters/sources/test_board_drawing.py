import cv2
import numpy as np
import pytest

from kd_steps.adapters.sources.board_drawing import render_board
from kd_steps.core.synthetic.board_layout import lay_out_board
from kd_steps.core.synthetic.boards import Board
from kd_steps.core.synthetic.components import FAULT_CLASSES

SHADOW_AND_BLUR_PX = 14


def board_with(faults: list[str], seed: int = 0, size_px: int = 256) -> Board:
    return lay_out_board(np.random.default_rng(seed), size_px, faults, design_seed=seed, exposure_seed=seed + 1)


@pytest.mark.parametrize("size_px", [64, 100, 256, 1024])
def test_pixels_have_the_size_asked_for_and_use_the_sensor_s_range(size_px: int) -> None:
    pixels = render_board(board_with([], size_px=size_px))
    assert pixels.shape == (size_px, size_px, 3)
    assert pixels.dtype == np.uint8
    assert 20 < pixels.mean() < 180
    assert pixels.std() > 15


@pytest.mark.parametrize("fault_class", FAULT_CLASSES)
@pytest.mark.parametrize("seed", range(5))
def test_a_fault_shows_in_its_box_and_nowhere_else(fault_class: str, seed: int) -> None:
    board = board_with([fault_class], seed)
    difference = cv2.absdiff(render_board(board), render_board(board.without_faults())).max(axis=2)
    x1, y1, x2, y2 = board.boxes_xyxy_px[0]
    inside = difference[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
    assert (inside > 25).mean() > 0.1
    around = difference.copy()
    reach = SHADOW_AND_BLUR_PX
    around[max(0, int(y1) - reach) : int(y2) + reach, max(0, int(x1) - reach) : int(x2) + reach] = 0
    assert around.max() == 0


@pytest.mark.parametrize("fault_class", FAULT_CLASSES)
def test_boxes_are_tight(fault_class: str) -> None:
    """What differs strongly from the template reaches over most of the box in at least one direction."""
    for seed in range(5):
        board = board_with([fault_class], seed)
        difference = cv2.absdiff(render_board(board), render_board(board.without_faults())).max(axis=2)
        x1, y1, x2, y2 = board.boxes_xyxy_px[0]
        rows, columns = np.nonzero(difference > 25)
        reach_x, reach_y = np.ptp(columns) / (x2 - x1), np.ptp(rows) / (y2 - y1)
        assert max(reach_x, reach_y) > 0.4


def test_noise_differs_from_field_to_field_on_one_design() -> None:
    board = board_with([])
    other = Board(board.size_px, board.parts, board.design_seed, board.exposure_seed + 1)
    assert (render_board(board) != render_board(other)).mean() > 0.5


def test_drawing_twice_gives_the_same_pixels() -> None:
    board = board_with(list(FAULT_CLASSES[:5]), 3)
    assert (render_board(board) == render_board(board)).all()
