"""Draws one camera field of an SMT board as pixels: bare board, parts, light, lens and sensor."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kd_steps.adapters.sources.part_drawing import draw_body, draw_pads, draw_shadow, draw_silkscreen
from kd_steps.adapters.sources.pen import SUBPIXEL_BITS, Colour
from kd_steps.core.synthetic.board_wiring import Wiring, wire_board
from kd_steps.core.synthetic.boards import Board

MASK_COLOURS: tuple[Colour, ...] = (
    # Solder masks over copper, BGR: three greens, as most boards are, blue, red, black.
    (62, 108, 34),
    (48, 92, 22),
    (74, 120, 58),
    (118, 66, 24),
    (36, 34, 128),
    (46, 44, 42),
)
FINISHES: tuple[Colour, ...] = ((96, 176, 214), (172, 178, 180))
"""Immersion gold and tin."""


@dataclass(frozen=True)
class _Design:
    mask: Colour
    finish: Colour
    ink: Colour

    @property
    def laminate(self) -> Colour:
        """Mask over bare laminate, darker than over copper."""
        b, g, r = self.mask
        return 0.66 * b, 0.66 * g, 0.66 * r

    @property
    def track(self) -> Colour:
        b, g, r = self.mask
        return min(255.0, 1.16 * b + 8), min(255.0, 1.16 * g + 10), min(255.0, 1.16 * r + 8)


def render_board(board: Board) -> NDArray[np.uint8]:
    """Pixels of one field, BGR uint8 of shape (size_px, size_px, 3).

    A board and its :meth:`~kd_steps.core.synthetic.boards.Board.without_faults` get the same wiring, light, blur and
    noise, so that they differ only around the faults.
    """
    rng = np.random.default_rng(board.exposure_seed)
    design = _design(np.random.default_rng(board.design_seed))
    image = np.full((board.size_px, board.size_px, 3), design.laminate, np.uint8)
    # The template must draw the same chances: nothing below may consume them by what is faulty.
    wiring = wire_board(rng, board.without_faults())
    _draw_bare_board(image, wiring, design)
    for part in board.parts:
        draw_silkscreen(image, part, design.ink)
    for part in board.parts:
        draw_pads(image, part, design.finish, design.laminate)
    image = _shaded(image, board)
    for part in board.parts:
        draw_body(image, part)
    return _photographed(rng, image)


def _design(rng: np.random.Generator) -> _Design:
    mask = MASK_COLOURS[int(rng.choice(len(MASK_COLOURS), p=(0.28, 0.2, 0.16, 0.16, 0.1, 0.1)))]
    b, g, r = np.clip(np.array(mask) * rng.uniform(0.88, 1.14) + rng.normal(0, 4, 3), 5, 200)
    finish = FINISHES[int(rng.integers(len(FINISHES)))]
    ink = float(rng.uniform(205, 240))
    return _Design((float(b), float(g), float(r)), finish, (ink - float(rng.uniform(0, 14)), ink, ink))


def _fixed(points_px: object) -> NDArray[np.int32]:
    return np.round(np.array(points_px, np.float64) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _draw_bare_board(image: NDArray[np.uint8], wiring: Wiring, design: _Design) -> None:
    for x1, y1, x2, y2 in wiring.pours_px:
        cv2.rectangle(image, (round(x1), round(y1)), (round(x2), round(y2)), design.mask, cv2.FILLED)
    lines = [(_fixed(trace.points_px), trace.width_px) for trace in wiring.traces]
    for points, width in lines:
        cv2.polylines(image, [points], False, design.laminate, round(width + 4), cv2.LINE_AA, SUBPIXEL_BITS)
    for points, width in lines:
        cv2.polylines(image, [points], False, design.track, round(width), cv2.LINE_AA, SUBPIXEL_BITS)
    for x, y in wiring.vias_px:
        centre = (round(x * 16), round(y * 16))
        rings = ((5.4, design.laminate), (4.2, design.track), (2.9, design.finish), (1.7, (18.0, 20.0, 20.0)))
        for radius, colour in rings:
            cv2.circle(image, centre, round(radius * 16), colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
    for text, (x, y) in wiring.designators:
        cv2.putText(image, text, (round(x), round(y)), cv2.FONT_HERSHEY_SIMPLEX, 0.32, design.ink, 1, cv2.LINE_AA)


def _shaded(image: NDArray[np.uint8], board: Board) -> NDArray[np.uint8]:
    """The board under the soft shadows of its parts."""
    mask = np.zeros(image.shape[:2], np.uint8)
    for part in board.parts:
        draw_shadow(mask, part)
    light = 255 - cv2.blur(cv2.blur(mask, (5, 5)), (5, 5)) // 2
    return np.asarray(cv2.multiply(image, cv2.merge([light] * 3), scale=1 / 255), np.uint8)


def _photographed(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light that falls off across the field, a lens that blurs a little, a sensor with shot and read noise."""
    size = image.shape[0]
    blur_px, gain = float(rng.uniform(0.45, 0.85)), float(rng.uniform(0.84, 1.12))
    slope = rng.uniform(-0.16, 0.16, 2)
    white_balance = rng.uniform(0.95, 1.05, 3).astype(np.float32)
    across = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    light = gain * (1 + slope[0] * across[None, :] + slope[1] * across[:, None])
    light -= 0.14 * gain * (across[None, :] ** 2 + across[:, None] ** 2)
    patches = rng.normal(0, 0.035, (max(2, size // 24), max(2, size // 24))).astype(np.float32)
    light = light.astype(np.float32) + cv2.resize(patches, (size, size), interpolation=cv2.INTER_CUBIC)
    seen = cv2.GaussianBlur(image, (5, 5), blur_px).astype(np.float32) * light[:, :, None] * white_balance
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    seen += noise * np.sqrt(3.0 + 0.05 * seen)
    picture: NDArray[np.uint8] = np.clip(seen, 0, 255).astype(np.uint8)
    return picture
