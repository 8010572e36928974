"""Copper and lettering between the parts of a drawn SMT board: traces, vias, and where designators find room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kd_steps.core.synthetic.boards import Board, PlacedPart, rotation
from kd_steps.core.synthetic.components import PX_PER_MM, Rect

Point = tuple[float, float]

VIA_CLEARANCE_PX = 7.0
LETTER_PX = (6.0, 8.0)


@dataclass(frozen=True)
class Trace:
    """One copper track: its corner points and width, px."""

    points_px: tuple[Point, ...]
    width_px: float


@dataclass(frozen=True)
class Wiring:
    """What lies on the bare board besides pads; all in px of the picture.

    Attributes:
        pours_px: copper areas.
        traces: tracks, under the solder mask.
        vias_px: centres of vias.
        designators: text and its lower left corner, for the parts that had room beside them.
    """

    pours_px: tuple[Rect, ...]
    traces: tuple[Trace, ...]
    vias_px: tuple[Point, ...]
    designators: tuple[tuple[str, Point], ...]


def wire_board(rng: np.random.Generator, board: Board) -> Wiring:
    """Tracks from pads, buses across the field, free vias and designators; the same for a board and its template."""
    courtyards = [part.courtyard_px for part in board.parts]
    traces, vias = _buses(rng, board.size_px), []
    for part in board.parts:
        for i in range(len(part.kind.pads_mm)):
            if rng.random() < 0.75:
                trace, end = _escape(rng, part, i)
                traces.append(trace)
                vias.append(end)
    vias += [tuple(rng.uniform(0, board.size_px, 2)) for _ in range(int(board.size_px**2 / 8000))]
    return Wiring(
        pours_px=_pours(rng, board.size_px),
        traces=tuple(traces),
        vias_px=_apart(vias, courtyards),
        designators=_designators(rng, board, courtyards),
    )


def _pours(rng: np.random.Generator, size_px: int) -> tuple[Rect, ...]:
    pours = []
    for _ in range(3):
        x, y = rng.uniform(-0.3, 0.8, 2) * size_px
        length, width = rng.uniform(0.3, 0.9, 2) * size_px
        pours.append(Rect(float(x), float(y), float(x + length), float(y + width)))
    return tuple(pours)


def _buses(rng: np.random.Generator, size_px: int) -> list[Trace]:
    """Parallel tracks that cross the field with one 45° jog."""
    traces = []
    for _ in range(max(1, round(size_px / 128))):
        tracks, pitch = int(rng.integers(2, 6)), float(rng.uniform(6, 9))
        start, jog_at = rng.uniform(0, size_px), rng.uniform(0.2, 0.8) * size_px
        jog = float(rng.choice([-1, 1]) * rng.uniform(10, 50))
        upright = bool(rng.random() < 0.5)
        for k in range(tracks):
            offset = start + k * pitch
            # Corners move along with the track number, so that the jog keeps the tracks parallel.
            bend = jog_at - np.sign(jog) * k * pitch * 0.41
            line = [(-9.0, offset), (bend, offset), (bend + abs(jog), offset + jog), (size_px + 9.0, offset + jog)]
            traces.append(_trace([(y, x) if upright else (x, y) for x, y in line], 2.2))
    return traces


def _escape(rng: np.random.Generator, part: PlacedPart, pad_index: int) -> tuple[Trace, Point]:
    """A track that leaves a pad outwards, turns by 45° and ends in a via."""
    pad = part.kind.pads_mm[pad_index].centre
    gull_wing = part.kind.look == "ic"
    outward = np.array([0.0, np.sign(pad[1])]) if gull_wing else np.array([np.sign(pad[0]), 0.0])
    turn = rotation(90.0 * part.quarter_turns)
    direction = turn @ outward
    start = turn @ np.array(pad) * PX_PER_MM + np.array(part.centre_px)
    first = start + direction * rng.uniform(14, 30)
    second = first + rotation(float(rng.choice([-45, 45]))) @ direction * rng.uniform(8, 40)
    end = second + direction * rng.uniform(4, 60)
    width = 2.0 if gull_wing else float(rng.choice([2.2, 3.5, 5.0]))
    return _trace([tuple(start), tuple(first), tuple(second), tuple(end)], width), (float(end[0]), float(end[1]))


def _trace(points: list[tuple[float, ...]], width_px: float) -> Trace:
    return Trace(tuple((float(x), float(y)) for x, y in points), width_px)


def _apart(vias: list[Point], courtyards: list[Rect]) -> tuple[Point, ...]:
    """The vias that touch neither a part nor an earlier via."""
    kept: list[Point] = []
    for x, y in vias:
        ring = Rect(x, y, x, y).grown(VIA_CLEARANCE_PX)
        on_part = any(ring.overlaps(c) for c in courtyards)
        if not on_part and all((x - u) ** 2 + (y - v) ** 2 > (2 * VIA_CLEARANCE_PX) ** 2 for u, v in kept):
            kept.append((float(x), float(y)))
    return tuple(kept)


def _designators(rng: np.random.Generator, board: Board, courtyards: list[Rect]) -> tuple[tuple[str, Point], ...]:
    """Designators above, below, or beside their parts, where that is free."""
    placed: list[tuple[str, Point]] = []
    taken = list(courtyards)
    field = Rect(0, 0, board.size_px, board.size_px)
    for part, yard in zip(board.parts, courtyards, strict=True):
        text = f"{part.kind.prefix}{part.number}"
        length, height = LETTER_PX[0] * len(text), LETTER_PX[1]
        x, y = (yard.x1 + yard.x2 - length) / 2, (yard.y1 + yard.y2 - height) / 2
        corners = [(x, yard.y1 - height - 3), (x, yard.y2 + 3), (yard.x2 + 3, y), (yard.x1 - length - 3, y)]
        for k in rng.permutation(4):
            left, top = corners[k]
            box = Rect(left, top, left + length, top + height)
            inside = field.x1 <= box.x1 and field.y1 <= box.y1 and box.x2 <= field.x2 and box.y2 <= field.y2
            if inside and not any(box.overlaps(t) for t in taken):
                taken.append(box)
                placed.append((text, (left, top + height)))
                break
    return tuple(placed)
