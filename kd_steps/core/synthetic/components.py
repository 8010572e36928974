"""The parts of a drawn SMT board: bodies, pads and silkscreen of each package, and the faults each can carry.

A part lies in its own frame: the origin at its centre, x along its length, y down as in a picture, millimetres. Two-pad
parts have their pads at either end of x; gull-wing parts have their pins along the two sides of y. Package sizes are
rounded from the usual land patterns (IPC-7351), with fillets a little long so that a joint has enough pixels to judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

PX_PER_MM = 20.0

MISSING = "missing_component"
SHIFTED = "shifted_component"
BRIDGE = "solder_bridge"
INSUFFICIENT = "insufficient_solder"
WRONG_POLARITY = "wrong_polarity"
TOMBSTONE = "tombstone"

FAULT_CLASSES = (MISSING, SHIFTED, BRIDGE, INSUFFICIENT, WRONG_POLARITY, TOMBSTONE)

Look = Literal["resistor", "capacitor", "diode", "tantalum", "electrolytic", "ic"]


class Rect(NamedTuple):
    """An axis-aligned rectangle, corners in mm of a part's frame or in px of a picture."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def grown(self, margin: float) -> Rect:
        """The rectangle with ``margin`` more on each side; a negative margin shrinks it."""
        return Rect(self.x1 - margin, self.y1 - margin, self.x2 + margin, self.y2 + margin)

    def overlaps(self, other: Rect) -> bool:
        """Whether the two rectangles share an area."""
        return self.x1 < other.x2 and other.x1 < self.x2 and self.y1 < other.y2 and other.y1 < self.y2


def centred(x: float, y: float, length: float, width: float) -> Rect:
    """A rectangle of ``length`` along x and ``width`` along y around (x, y)."""
    return Rect(x - length / 2, y - width / 2, x + length / 2, y + width / 2)


def bounding(*rects: Rect) -> Rect:
    """The smallest rectangle around all of ``rects``."""
    return Rect(min(r.x1 for r in rects), min(r.y1 for r in rects), max(r.x2 for r in rects), max(r.y2 for r in rects))


@dataclass(frozen=True)
class PartKind:
    """One package of one type of part.

    Attributes:
        look: how the body is drawn.
        prefix: first letter of its reference designator on the silkscreen.
        body_mm: the body; the mark of a polarised part lies at its +x end.
        pads_mm: the pads; of a gull-wing part first the pins at -y from left to right, then those at +y.
        outline_mm: the silkscreen outline.
        mark_mm: the polarity bar on the silkscreen, beside the +x end; None where the part has no polarity.
        faults: the fault classes the part can carry.
        max_copies: how many of them a designer puts side by side.
        weight: how often the part is chosen, against the others.
    """

    look: Look
    prefix: str
    body_mm: Rect
    pads_mm: tuple[Rect, ...]
    outline_mm: Rect
    mark_mm: Rect | None
    faults: frozenset[str]
    max_copies: int
    weight: float

    @cached_property
    def footprint_mm(self) -> Rect:
        """Pads and body."""
        return bounding(self.body_mm, *self.pads_mm)

    @cached_property
    def courtyard_mm(self) -> Rect:
        """All that belongs to the part: pads, body and silkscreen."""
        return bounding(self.footprint_mm, self.outline_mm, *([self.mark_mm] if self.mark_mm else []))


def _chip(look: Look, body: tuple[float, float], pad: tuple[float, float], weight: float) -> PartKind:
    """A chip resistor or capacitor; ``body`` and ``pad`` are (length, width) in mm."""
    reach = body[0] / 2 + 0.5 - pad[0] / 2
    pads = tuple(centred(sign * reach, 0.0, *pad) for sign in (-1, 1))
    outline = bounding(*pads).grown(0.14)
    faults = frozenset({MISSING, SHIFTED, INSUFFICIENT, TOMBSTONE})
    return PartKind(look, look[0].upper(), centred(0, 0, *body), pads, outline, None, faults, 4, weight)


def _polarised(look: Look, body: tuple[float, float], pad: tuple[float, float], reach: float) -> PartKind:
    """A two-pad part with a polarity; ``reach`` is how far the pads stand out of the body, mm."""
    pads = tuple(centred(sign * (body[0] / 2 + reach - pad[0] / 2), 0.0, *pad) for sign in (-1, 1))
    half_width = max(body[1], pad[1]) / 2 + 0.14
    outline = Rect(pads[0].x1 - 0.14, -half_width, pads[1].x2 + 0.14, half_width)
    mark = Rect(outline.x2, -half_width, outline.x2 + 0.26, half_width)
    faults = frozenset({MISSING, SHIFTED, WRONG_POLARITY})
    prefix = "D" if look == "diode" else "C"
    return PartKind(look, prefix, centred(0, 0, *body), pads, outline, mark, faults, 2, 0.7)


def _gull_wing(top: int, bottom: int, pitch: float, body: tuple[float, float], pad: tuple[float, float]) -> PartKind:
    """A part with ``top`` pins along -y and ``bottom`` pins along +y."""

    def row(pins: int, y: float, spacing: float) -> list[Rect]:
        return [centred((i - (pins - 1) / 2) * spacing, y, *pad) for i in range(pins)]

    reach = body[1] / 2 + pad[1] / 2 + 0.02
    pads = row(top, -reach, pitch) + row(bottom, reach, pitch)
    outline = centred(0, 0, body[0] + 0.2, body[1] - 0.1)
    faults = frozenset({BRIDGE}) if top > 1 and bottom > 1 else frozenset[str]()
    prefix = "U" if faults else "Q"
    return PartKind("ic", prefix, centred(0, 0, *body), tuple(pads), outline, None, faults, 1, 0.5)


PART_KINDS: tuple[PartKind, ...] = (
    _chip("resistor", (1.6, 0.85), (0.95, 1.0), 1.5),
    _chip("capacitor", (1.6, 0.85), (0.95, 1.0), 1.5),
    _chip("resistor", (2.0, 1.25), (1.05, 1.4), 1.0),
    _chip("capacitor", (2.0, 1.25), (1.05, 1.4), 1.0),
    _polarised("diode", (1.5, 1.0), (0.7, 0.7), 0.36),
    _polarised("diode", (2.0, 1.25), (0.8, 0.9), 0.45),
    _polarised("tantalum", (2.3, 1.45), (0.85, 1.2), 0.4),
    _polarised("electrolytic", (2.5, 2.5), (1.1, 0.8), 0.3),
    _gull_wing(3, 3, 0.65, (2.0, 1.15), (0.36, 0.82)),
    _gull_wing(4, 4, 0.65, (2.7, 1.9), (0.36, 0.95)),
    _gull_wing(6, 6, 0.65, (4.0, 2.1), (0.36, 0.95)),
    _gull_wing(2, 1, 1.2, (1.8, 1.0), (0.55, 0.6)),
)


def carriers(fault_class: str) -> tuple[PartKind, ...]:
    """The parts that can carry a fault.

    Raises:
        ValueError: no part carries ``fault_class``.
    """
    kinds = tuple(kind for kind in PART_KINDS if fault_class in kind.faults)
    if not kinds:
        known = ", ".join(FAULT_CLASSES)
        raise ValueError(f"no part of a drawn board carries the fault {fault_class!r}; known faults: {known}")
    return kinds


def pins_in_rows(kind: PartKind) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of a gull-wing part's pads at -y and at +y, each from left to right."""
    top = tuple(i for i, pad in enumerate(kind.pads_mm) if pad.centre[1] < 0)
    return top, tuple(i for i in range(len(kind.pads_mm)) if i not in top)
