"""Places parts on a drawn SMT board by chance, so that the field shows the faults asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kd_steps.core.synthetic.boards import Board, Fault, PlacedPart, fault_box_px, rotation
from kd_steps.core.synthetic.components import (
    BRIDGE,
    INSUFFICIENT,
    PART_KINDS,
    PX_PER_MM,
    SHIFTED,
    TOMBSTONE,
    PartKind,
    Rect,
    bounding,
    carriers,
    pins_in_rows,
)

PARTS_PER_PX2 = 12 / 256**2
CLEARANCE_PX = 5.0
EDGE_MARGIN_PX = 2.0
PLACEMENT_TRIES = 60
FILLER_TRIES = 12


def lay_out_board(
    rng: np.random.Generator, size_px: int, fault_classes: Sequence[str], design_seed: int, exposure_seed: int
) -> Board:
    """Place parts on one camera field, so that it shows the faults asked for, as far as they find room.

    Args:
        rng: the only source of chance.
        size_px: side of the picture, at least 64 px.
        fault_classes: the faults to show, one entry a fault; the first always finds room.
        design_seed: see :class:`Board`.
        exposure_seed: see :class:`Board`.

    Raises:
        ValueError: the picture is too small for any part, or no part carries a fault asked for.
    """
    if size_px < 64:
        raise ValueError(f"a drawn board needs pictures of at least 64 px, got {size_px} px")
    blocks = [_faulty_block(rng, name, size_px) for name in fault_classes]
    # The first is sure of its place; of the others large ones come first, for they would find no room later.
    blocks[1:] = sorted(blocks[1:], key=lambda block: -max(_extent(block[0].kind.courtyard_mm)))
    target = max(1, round(PARTS_PER_PX2 * size_px**2))
    parts: list[PlacedPart] = []
    taken: list[Rect] = []

    def place(block: list[PlacedPart], tries: int) -> bool:
        found = _placed(rng, block, taken, size_px, tries)
        parts.extend(found)
        taken.extend(_reach_px(part) for part in found)
        return bool(found)

    for block in blocks:
        if not place(block, PLACEMENT_TRIES):
            place(_alone(block), PLACEMENT_TRIES)
    for _ in range(2 * target):
        if len(parts) >= target:
            break
        place(_block(rng, _choose(rng, PART_KINDS, size_px), size_px, None), FILLER_TRIES)
    return Board(size_px, tuple(parts), design_seed, exposure_seed)


def _faulty_block(rng: np.random.Generator, fault_class: str, size_px: int) -> list[PlacedPart]:
    """A block with one faulty part that at least fits the empty picture, fault box included."""
    room = size_px - 2 * EDGE_MARGIN_PX
    while True:
        block = _block(rng, _choose(rng, carriers(fault_class), size_px), size_px, fault_class)
        if max(_extent(_reach_px(_alone(block)[0]))) <= room:
            return block


def _choose(rng: np.random.Generator, kinds: Sequence[PartKind], size_px: int) -> PartKind:
    """One of the kinds that fit the picture, by weight."""
    room_mm = (size_px - 2 * EDGE_MARGIN_PX - 1) / PX_PER_MM
    fitting = [k for k in kinds if max(_extent(k.courtyard_mm)) <= room_mm]
    weights = np.array([kind.weight for kind in fitting])
    return fitting[int(rng.choice(len(fitting), p=weights / weights.sum()))]


def _extent(rect: Rect) -> tuple[float, float]:
    return rect.x2 - rect.x1, rect.y2 - rect.y1


def _block(rng: np.random.Generator, kind: PartKind, size_px: int, fault_class: str | None) -> list[PlacedPart]:
    """A few copies side by side, as a designer sets them, around the origin; at most one of them is faulty."""
    pitch_px = _extent(kind.courtyard_mm)[1] * PX_PER_MM + CLEARANCE_PX + float(rng.integers(0, 5))
    most = min(kind.max_copies, max(1, int(0.6 * size_px // pitch_px)))
    copies = int(rng.integers(1, most + 1))
    turns, number, tone = int(rng.integers(4)), int(rng.integers(1, 90)), float(rng.random())
    faulty = int(rng.integers(copies))
    parts = []
    for i in range(copies):
        along = (i - (copies - 1) / 2) * pitch_px
        centre = rotation(90.0 * turns) @ np.array([0.0, along])
        jitter_x, jitter_y, jitter_deg = rng.normal(size=3).clip(-2, 2) * (0.025, 0.025, 0.8)
        fault = draw_fault(rng, kind, fault_class) if fault_class and i == faulty else None
        parts.append(
            PlacedPart(
                kind=kind,
                centre_px=(float(centre[0]), float(centre[1])),
                quarter_turns=turns,
                jitter_mm=(float(jitter_x), float(jitter_y)),
                jitter_deg=float(jitter_deg),
                tone=float(np.clip(tone + rng.normal(0, 0.08), 0, 1)),
                number=number + i,
                fault=fault,
            )
        )
    return parts


def draw_fault(rng: np.random.Generator, kind: PartKind, fault_class: str) -> Fault:
    """One fault of a class on a part of ``kind``, with its place and extent."""
    if fault_class == SHIFTED:
        # A shift must be more than a placer's tolerance in at least one way: turned, or off the pads.
        width = _extent(kind.body_mm)[1]
        sign = rng.choice([-1.0, 1.0], size=3)
        angle = float(sign[0] * rng.uniform(16, 32))
        across = float(sign[1] * rng.uniform(0.12, 0.3) * width)
        return Fault(fault_class, offset_mm=(float(sign[2] * rng.uniform(0.0, 0.2)), across), angle_deg=angle)
    if fault_class == BRIDGE:
        row = pins_in_rows(kind)[int(rng.integers(2))]
        first = int(rng.integers(len(row) - 1))
        return Fault(fault_class, pads=row[first : first + 2])
    if fault_class in (INSUFFICIENT, TOMBSTONE):
        return Fault(fault_class, pads=(int(rng.integers(2)),))
    return Fault(fault_class)


def _alone(block: list[PlacedPart]) -> list[PlacedPart]:
    """Only the faulty part of a block, which needs less room."""
    return [replace(part, centre_px=(0.0, 0.0)) for part in block if part.fault]


def _reach_px(part: PlacedPart) -> Rect:
    """Courtyard and fault box together."""
    return bounding(part.courtyard_px, fault_box_px(part)) if part.fault else part.courtyard_px


def _placed(
    rng: np.random.Generator, block: list[PlacedPart], taken: Sequence[Rect], size_px: int, tries: int
) -> list[PlacedPart]:
    """The block at a free place, or nothing where none was found."""
    others = np.array(taken, np.float64).reshape(1, -1, 4)
    extent = bounding(*(_reach_px(part) for part in block))
    low = np.array([EDGE_MARGIN_PX - extent.x1, EDGE_MARGIN_PX - extent.y1])
    high = size_px - EDGE_MARGIN_PX - np.array([extent.x2, extent.y2])
    if (high < low).any():
        return []
    shifts = np.floor(rng.uniform(low, high, size=(tries, 2)))
    boxes = (np.array(extent.grown(CLEARANCE_PX)) + np.concatenate([shifts, shifts], axis=1))[:, None, :]
    overlaps = (boxes[..., :2] < others[..., 2:]) & (others[..., :2] < boxes[..., 2:])
    free = ~overlaps.all(axis=2).any(axis=1)
    if not free.any():
        return []
    dx, dy = shifts[int(free.argmax())]
    return [replace(p, centre_px=(p.centre_px[0] + float(dx), p.centre_px[1] + float(dy))) for p in block]
