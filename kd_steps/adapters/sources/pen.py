"""Fills shapes with OpenCV, given in millimetres of a frame that is turned and moved into a picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kd_steps.core.synthetic.boards import PlacedPart, rotation
from kd_steps.core.synthetic.components import PX_PER_MM, Rect

Colour = tuple[float, float, float]
SUBPIXEL_BITS = 4
UNIT_CIRCLE = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 20, endpoint=False)])


@dataclass(frozen=True)
class Pen:
    """Fills shapes given in millimetres of a frame that is turned and moved into the picture.

    Attributes:
        image: the picture, BGR uint8 (height, width, 3), or one channel; drawn on in place.
        origin_px: the frame's origin in the picture.
        matrix: (2, 2), turns and scales the frame into the picture.
    """

    image: NDArray[np.uint8]
    origin_px: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def on_part(cls, image: NDArray[np.uint8], part: PlacedPart) -> Pen:
        """A pen in the frame of the part's pads."""
        return cls(image, np.array(part.centre_px), rotation(90.0 * part.quarter_turns) * PX_PER_MM)

    def moved(self, offset_mm: tuple[float, float], angle_deg: float) -> Pen:
        """A pen whose frame lies moved and turned within this one."""
        return Pen(self.image, self.origin_px + self.matrix @ np.array(offset_mm), self.matrix @ rotation(angle_deg))

    def polygon(self, points_mm: NDArray[np.float64], colour: Colour) -> None:
        points = (points_mm @ self.matrix.T + self.origin_px) * (1 << SUBPIXEL_BITS)
        cv2.fillConvexPoly(self.image, np.rint(points).astype(np.int32), colour, cv2.LINE_AA, SUBPIXEL_BITS)

    def rect(self, rect: Rect, colour: Colour, corner_mm: float = 0.0) -> None:
        """A rectangle whose corners are cut by ``corner_mm``."""
        x1, y1, x2, y2 = rect
        c = min(corner_mm, (x2 - x1) / 2, (y2 - y1) / 2)
        k = 0.3 * c
        corners = [(x1 + c, y1), (x2 - c, y1), (x2 - k, y1 + k), (x2, y1 + c), (x2, y2 - c), (x2 - k, y2 - k)]
        corners += [(x2 - c, y2), (x1 + c, y2), (x1 + k, y2 - k), (x1, y2 - c), (x1, y1 + c), (x1 + k, y1 + k)]
        self.polygon(np.array(corners), colour)

    def ellipse(self, centre_mm: tuple[float, float], radii_mm: tuple[float, float], colour: Colour) -> None:
        self.polygon(UNIT_CIRCLE * radii_mm + centre_mm, colour)

    def frame(self, rect: Rect, colour: Colour, width_px: float) -> None:
        """The outline of a rectangle."""
        x1, y1, x2, y2 = rect
        points = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]) @ self.matrix.T + self.origin_px
        fixed = np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.polylines(self.image, [fixed], True, colour, max(1, round(width_px)), cv2.LINE_AA, SUBPIXEL_BITS)
