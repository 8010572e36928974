"""The layout of a drawn SMT board: which parts lie where, which are faulty, and the box of every fault."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kd_steps.core.synthetic.components import (
    BRIDGE,
    INSUFFICIENT,
    PX_PER_MM,
    SHIFTED,
    WRONG_POLARITY,
    PartKind,
    Rect,
    bounding,
)

BOX_MARGIN_PX = 2.0


@dataclass(frozen=True)
class Fault:
    """What is wrong with one part.

    Attributes:
        class_name: one of the fault classes.
        pads: indices of the pads concerned: the poor joint, the two bridged pins, the pad a tombstone stands on.
        offset_mm: how far a shifted body lies from its place, in the part's frame.
        angle_deg: how far a shifted body is turned.
    """

    class_name: str
    pads: tuple[int, ...] = ()
    offset_mm: tuple[float, float] = (0.0, 0.0)
    angle_deg: float = 0.0


@dataclass(frozen=True)
class PlacedPart:
    """One part on the board.

    Attributes:
        kind: its package.
        centre_px: its centre in the picture.
        quarter_turns: its direction, quarter turns clockwise on the screen.
        jitter_mm: the placer's harmless offset of the body.
        jitter_deg: the placer's harmless turn of the body.
        tone: 0-1, where it lies in the spread of its type's colours.
        number: number on the silkscreen and in the body's marking.
        fault: what is wrong with it, or None.
    """

    kind: PartKind
    centre_px: tuple[float, float]
    quarter_turns: int
    jitter_mm: tuple[float, float]
    jitter_deg: float
    tone: float
    number: int
    fault: Fault | None = None

    def to_picture(self, rect_mm: Rect) -> Rect:
        """A rectangle of the part's frame, mm, as one of the picture, px."""
        corners = np.array([[rect_mm.x1, rect_mm.y1], [rect_mm.x2, rect_mm.y2]]) * PX_PER_MM
        turned = corners @ rotation(90.0 * self.quarter_turns).T + np.array(self.centre_px)
        (x1, y1), (x2, y2) = turned.min(axis=0), turned.max(axis=0)
        return Rect(float(x1), float(y1), float(x2), float(y2))

    @property
    def courtyard_px(self) -> Rect:
        return self.to_picture(self.kind.courtyard_mm)


@dataclass(frozen=True)
class Board:
    """One camera field of a board, as geometry; how it looks follows from the two seeds.

    Attributes:
        size_px: side of the square picture.
        parts: the parts, none overlapping another.
        design_seed: decides solder mask, finish and silkscreen; shared by all fields of one board.
        exposure_seed: decides traces, light, blur and noise of this field.
    """

    size_px: int
    parts: tuple[PlacedPart, ...]
    design_seed: int
    exposure_seed: int

    @property
    def faulty_parts(self) -> tuple[PlacedPart, ...]:
        return tuple(part for part in self.parts if part.fault)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class of each fault, in the order of :attr:`boxes_xyxy_px`."""
        return tuple(part.fault.class_name for part in self.parts if part.fault)

    @property
    def boxes_xyxy_px(self) -> NDArray[np.float64]:
        """Box of each fault, float64 (n, 4), clipped to the picture."""
        boxes = [fault_box_px(part) for part in self.faulty_parts]
        return np.clip(np.array(boxes, np.float64).reshape(-1, 4), 0.0, float(self.size_px))

    def without_faults(self) -> Board:
        """The same field as it should have come out: the aligned template."""
        return replace(self, parts=tuple(replace(part, fault=None) for part in self.parts))


def rotation(angle_deg: float) -> NDArray[np.float64]:
    """The (2, 2) matrix that turns column vectors clockwise on the screen, exact for quarter turns."""
    angle = np.deg2rad(angle_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.round(np.array([[cos, -sin], [sin, cos]]), 15)


def shifted_body_mm(part: PlacedPart) -> NDArray[np.float64]:
    """Corners (4, 2) of the body where it really lies, in the part's frame, mm."""
    body, fault = part.kind.body_mm, part.fault or Fault("")
    corners = np.array([[body.x1, body.y1], [body.x2, body.y1], [body.x2, body.y2], [body.x1, body.y2]])
    offset = np.array(part.jitter_mm) + np.array(fault.offset_mm)
    turned: NDArray[np.float64] = corners @ rotation(part.jitter_deg + fault.angle_deg).T + offset
    return turned


def fault_box_px(part: PlacedPart) -> Rect:
    """The box a person would draw around the fault: the joints concerned, or the whole footprint.

    Raises:
        ValueError: the part has no fault.
    """
    if part.fault is None:
        raise ValueError("the part has no fault, so it has no fault box")
    kind, fault = part.kind, part.fault
    if fault.class_name in (BRIDGE, INSUFFICIENT):
        inner = bounding(*(kind.pads_mm[i] for i in fault.pads))
    elif fault.class_name == SHIFTED:
        corners = shifted_body_mm(part)
        (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
        inner = bounding(*kind.pads_mm, Rect(float(x1), float(y1), float(x2), float(y2)))
    elif fault.class_name == WRONG_POLARITY:
        inner = kind.courtyard_mm
    else:
        inner = kind.footprint_mm
    return part.to_picture(inner).grown(BOX_MARGIN_PX)
