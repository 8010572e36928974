import numpy as np
import pytest

from kd_steps.core.synthetic.board_layout import lay_out_board
from kd_steps.core.synthetic.board_wiring import VIA_CLEARANCE_PX, wire_board
from kd_steps.core.synthetic.components import FAULT_CLASSES, Rect


@pytest.mark.parametrize("seed", range(10))
def test_vias_lie_clear_of_parts_and_of_each_other(seed: int) -> None:
    board = lay_out_board(np.random.default_rng(seed), 256, [], 0, 0)
    wiring = wire_board(np.random.default_rng(seed), board)
    assert wiring.vias_px
    for x, y in wiring.vias_px:
        ring = Rect(x, y, x, y).grown(VIA_CLEARANCE_PX)
        assert not any(ring.overlaps(part.courtyard_px) for part in board.parts)
    vias = np.array(wiring.vias_px)
    gaps = np.linalg.norm(vias[:, None] - vias[None], axis=2) + 1e9 * np.eye(len(vias))
    assert gaps.min() > 2 * VIA_CLEARANCE_PX


def test_designators_name_their_parts_and_lie_inside() -> None:
    board = lay_out_board(np.random.default_rng(3), 256, [], 0, 0)
    wiring = wire_board(np.random.default_rng(3), board)
    names = {f"{part.kind.prefix}{part.number}" for part in board.parts}
    assert wiring.designators
    for text, (x, y) in wiring.designators:
        assert text in names
        assert 0 <= x < 256
        assert 0 <= y <= 256


def test_faults_do_not_change_the_wiring() -> None:
    board = lay_out_board(np.random.default_rng(1), 256, list(FAULT_CLASSES[:5]), 0, 0)
    assert board.class_names
    wired = [wire_board(np.random.default_rng(9), b) for b in (board, board.without_faults())]
    assert wired[0] == wired[1]


def test_traces_turn_by_45_degrees() -> None:
    board = lay_out_board(np.random.default_rng(2), 256, [], 0, 0)
    for trace in wire_board(np.random.default_rng(2), board).traces:
        steps = np.diff(np.array(trace.points_px), axis=0)
        eighths = np.arctan2(steps[:, 1], steps[:, 0]) / (np.pi / 4)
        assert np.allclose(eighths, np.round(eighths), atol=1e-6)
