"""Draws pads, solder joints and bodies of SMT parts with OpenCV, lit from the upper left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kd_steps.adapters.sources.pen import Colour, Pen
from kd_steps.core.synthetic.boards import Fault, PlacedPart
from kd_steps.core.synthetic.components import (
    BRIDGE,
    INSUFFICIENT,
    MISSING,
    TOMBSTONE,
    WRONG_POLARITY,
    Rect,
    bounding,
    centred,
)

TERMINAL_MM = 0.34
SOLDER: Colour = (152, 150, 146)
SOLDER_SLOPE: Colour = (88, 86, 84)
SOLDER_BRIGHT: Colour = (214, 214, 212)
GLINT: Colour = (255, 255, 255)
TIN: Colour = (196, 198, 198)
DRY_JOINT: Colour = (66, 100, 172)
BODY_COLOURS: dict[str, tuple[Colour, Colour]] = {
    # The two ends of each type's spread, BGR.
    "resistor": ((34, 32, 30), (58, 54, 50)),
    "capacitor": ((96, 136, 170), (128, 166, 196)),
    "diode": ((38, 38, 40), (64, 62, 62)),
    "tantalum": ((40, 150, 222), (70, 180, 236)),
    "electrolytic": ((44, 42, 42), (66, 64, 64)),
    "ic": ((40, 40, 42), (62, 62, 64)),
}


def draw_silkscreen(image: NDArray[np.uint8], part: PlacedPart, ink: Colour) -> None:
    """The outline on the board, the polarity bar of a polarised part, the pin-1 dot of an integrated circuit."""
    pen, kind = Pen.on_part(image, part), part.kind
    pen.frame(kind.outline_mm, ink, 1)
    if kind.mark_mm:
        pen.rect(kind.mark_mm, ink)
    if kind.look == "ic":
        first = kind.pads_mm[0]
        pen.ellipse((first.x1 - 0.14, first.centre[1]), (0.11, 0.11), ink)


def draw_pads(image: NDArray[np.uint8], part: PlacedPart, finish: Colour, opening: Colour) -> None:
    """Pads with the solder on them, and what a fault left there; bodies come later."""
    pen, fault = Pen.on_part(image, part), part.fault or Fault("")
    for i, pad in enumerate(part.kind.pads_mm):
        pen.rect(pad.grown(0.07), opening, 0.06)
        pen.rect(pad, finish, 0.05)
        bare = fault.class_name == MISSING or (fault.class_name == TOMBSTONE and i not in fault.pads)
        if bare:
            _bare_dome(pen, pad)
        elif fault.class_name == INSUFFICIENT and i in fault.pads:
            _dry_joint(pen, pad)
        else:
            _joint(pen, pad, part)


def draw_shadow(mask: NDArray[np.uint8], part: PlacedPart) -> None:
    """The part's shadow as 255 in a one-channel picture; light comes from the upper left of the picture."""
    fault = part.fault or Fault("")
    if fault.class_name == MISSING:
        return
    pen, body = _body_pen(mask, part), part.kind.body_mm
    if fault.class_name == TOMBSTONE:
        body = _standing_body(part)
        pen = Pen(mask, pen.origin_px + np.array([3.5, 4.5]), pen.matrix)
    pen = Pen(mask, pen.origin_px + np.array([2.0, 2.5]), pen.matrix)
    pen.rect(body, (255, 255, 255))


def draw_body(image: NDArray[np.uint8], part: PlacedPart) -> None:
    """The part itself where it really lies, and a solder bridge over its pins."""
    kind, fault = part.kind, part.fault or Fault("")
    if fault.class_name == MISSING:
        return
    if fault.class_name == TOMBSTONE:
        _tombstone(Pen.on_part(image, part), part)
        return
    low, high = BODY_COLOURS[kind.look]
    colour = tuple(a + (b - a) * part.tone for a, b in zip(low, high, strict=True))
    pen = _body_pen(image, part)
    draw = {"resistor": _chip, "capacitor": _chip, "ic": _gull_wing, "electrolytic": _can}.get(kind.look, _moulded)
    draw(pen, part, (colour[0], colour[1], colour[2]))
    if fault.class_name == BRIDGE:
        _bridge(Pen.on_part(image, part), bounding(*(kind.pads_mm[i] for i in fault.pads)))


def _body_pen(image: NDArray[np.uint8], part: PlacedPart) -> Pen:
    fault = part.fault or Fault("")
    offset = part.jitter_mm[0] + fault.offset_mm[0], part.jitter_mm[1] + fault.offset_mm[1]
    half_turn = 180.0 if fault.class_name == WRONG_POLARITY else 0.0
    return Pen.on_part(image, part).moved(offset, part.jitter_deg + fault.angle_deg + half_turn)


def _tinted(colour: Colour, factor: float, shift: float = 0.0) -> Colour:
    b, g, r = (min(255.0, max(0.0, c * factor + shift)) for c in colour)
    return b, g, r


def _joint(pen: Pen, pad: Rect, part: PlacedPart) -> None:
    """A good fillet: dark where it climbs to the terminal, bright where it runs out on the pad."""
    pen.rect(pad.grown(-0.03), SOLDER, 0.12)
    x, y = pad.centre
    length, width = pad.x2 - pad.x1, pad.y2 - pad.y1
    if part.kind.look == "ic":
        side = np.sign(y)
        pen.ellipse((x, y + side * 0.3 * width), (0.3 * length, 0.14 * width), SOLDER_BRIGHT)
        return
    side = np.sign(x)
    pen.ellipse((x + side * 0.06 * length, y), (0.26 * length, 0.42 * width), SOLDER_SLOPE)
    pen.ellipse((x + side * 0.34 * length, y), (0.1 * length, 0.36 * width), SOLDER_BRIGHT)
    pen.ellipse((x + side * 0.36 * length, y - 0.06 * width), (0.05 * length, 0.2 * width), GLINT)


def _bare_dome(pen: Pen, pad: Rect) -> None:
    """Reflowed solder with nothing in it: a smooth shiny dome."""
    x, y = pad.centre
    length, width = pad.x2 - pad.x1, pad.y2 - pad.y1
    pen.rect(pad.grown(-0.05), SOLDER, 0.22)
    pen.rect(pad.grown(-0.14), SOLDER_BRIGHT, 0.22)
    pen.ellipse((x, y), (0.2 * length, 0.2 * width), GLINT)


def _dry_joint(pen: Pen, pad: Rect) -> None:
    """Too little solder: the pad's copper lies open, with a thin dark seam along the terminal."""
    side, width = np.sign(pad.centre[0]), pad.y2 - pad.y1
    pen.rect(pad, DRY_JOINT, 0.05)
    pen.rect(pad.grown(-0.07), _tinted(DRY_JOINT, 1.18), 0.05)
    pen.rect(centred(pad.centre[0] + side * 0.04, 0.0, 0.16, 0.8 * width), (36, 36, 40), 0.05)


def _bridge(pen: Pen, span: Rect) -> None:
    """Solder that ran together over two pins."""
    x, y = span.centre
    side = np.sign(y)
    length, width = span.x2 - span.x1, span.y2 - span.y1
    blob = Rect(span.x1, y - 0.42 * width, span.x2, y + 0.5 * width)
    pen.rect(blob, _tinted(SOLDER, 0.8), 0.22)
    pen.rect(blob.grown(-0.06), _tinted(SOLDER, 1.15), 0.2)
    pen.ellipse((x, y + side * 0.06 * width), (0.34 * length, 0.24 * width), SOLDER_BRIGHT)
    pen.ellipse((x, y + side * 0.04 * width), (0.2 * length, 0.13 * width), GLINT)


def _chip(pen: Pen, part: PlacedPart, colour: Colour) -> None:
    """A ceramic chip between two tinned terminals; a resistor carries its value."""
    body = part.kind.body_mm
    width = body.y2 - body.y1
    pen.rect(body, _tinted(TIN, 0.72), 0.06)
    for side in (-1, 1):
        pen.rect(centred(side * (body.x2 - TERMINAL_MM / 2), -0.03, TERMINAL_MM - 0.06, width - 0.14), TIN, 0.03)
    middle = Rect(body.x1 + TERMINAL_MM, body.y1, body.x2 - TERMINAL_MM, body.y2)
    pen.rect(middle, _tinted(colour, 0.82))
    pen.rect(middle.grown(-0.05), colour)
    if part.kind.look == "resistor":
        _marking(pen, part, 0.58 * width)
    else:
        pen.rect(Rect(middle.x1, body.y1 + 0.12, middle.x2, body.y1 + 0.24), _tinted(colour, 1.0, 26))


def _marking(pen: Pen, part: PlacedPart, height_mm: float) -> None:
    """Printed digits, as strokes: too small to be read at this scale, as on a real board."""
    for k in range(3):
        x = (k - 1) * 0.27
        pen.rect(centred(x, 0.0, 0.17, height_mm), (168, 168, 164), 0.05)
        if (part.number >> k) & 1:
            pen.rect(centred(x + 0.02, 0.1 * height_mm, 0.06, 0.5 * height_mm), (60, 58, 56))
        else:
            pen.rect(centred(x - 0.05, 0.16 * height_mm, 0.1, 0.3 * height_mm), (60, 58, 56))


def _moulded(pen: Pen, part: PlacedPart, colour: Colour) -> None:
    """A moulded diode or tantalum capacitor with metal tabs; the pale band lies at +x."""
    body = part.kind.body_mm
    for side in (-1, 1):
        pen.rect(centred(side * (body.x2 + 0.08), 0, 0.28, 0.62 * (body.y2 - body.y1)), TIN, 0.03)
    pen.rect(body, _tinted(colour, 0.6), 0.08)
    pen.rect(Rect(body.x1 + 0.05, body.y1 + 0.04, body.x2 - 0.09, body.y2 - 0.1), colour, 0.06)
    band = Rect(body.x2 - 0.42 * (body.x2 - body.x1), body.y1 + 0.04, body.x2 - 0.09, body.y2 - 0.1)
    pen.rect(band, (226, 228, 226))
    pen.rect(
        Rect(body.x1 + 0.12, body.y1 + 0.1, body.x2 - 0.5 * (body.x2 - body.x1), body.y1 + 0.2), _tinted(colour, 1, 30)
    )


def _can(pen: Pen, part: PlacedPart, colour: Colour) -> None:
    """An aluminium electrolytic capacitor: a can with a dark segment at +x on a plastic base."""
    body = part.kind.body_mm
    radius = 0.47 * (body.y2 - body.y1)
    pen.rect(body, colour, 0.3)
    pen.rect(body.grown(-0.06), _tinted(colour, 1.25), 0.3)
    pen.ellipse((0, 0), (radius, radius), (150, 152, 152))
    pen.ellipse((0, 0), (radius - 0.06, radius - 0.06), (216, 218, 218))
    angles = np.deg2rad(np.linspace(-58, 58, 14))
    pen.polygon(np.stack([np.cos(angles), np.sin(angles)], axis=1) * (radius - 0.05), (34, 32, 34))
    pen.ellipse((-0.3 * radius, 0), (0.3 * radius, 0.3 * radius), (236, 238, 238))


def _gull_wing(pen: Pen, part: PlacedPart, colour: Colour) -> None:
    """A moulded package with bent pins, a pin-1 dimple and laser marking."""
    kind, body = part.kind, part.kind.body_mm
    for pad in kind.pads_mm:
        x, y = pad.centre
        side, width = np.sign(y), 0.62 * (pad.x2 - pad.x1)
        foot = side * (abs(y) + 0.12 * (pad.y2 - pad.y1))
        pen.rect(Rect(x - width / 2, min(0, foot), x + width / 2, max(0, foot)), _tinted(TIN, 0.72))
        near = side * body.y2
        pen.rect(Rect(x - width / 2, min(near, near + side * 0.2), x + width / 2, max(near, near + side * 0.2)), TIN)
    pen.rect(body, _tinted(colour, 0.6), 0.05)
    pen.rect(Rect(body.x1 + 0.05, body.y1 + 0.05, body.x2 - 0.1, body.y2 - 0.1), colour, 0.04)
    pen.rect(Rect(body.x1 + 0.05, body.y1 + 0.05, body.x2 - 0.1, body.y1 + 0.12), _tinted(colour, 1.0, 24))
    pen.ellipse((body.x1 + 0.28, body.y1 + 0.3), (0.11, 0.11), _tinted(colour, 0.5))
    rows = 2 if body.y2 - body.y1 > 1.5 else 1
    for row in range(rows):
        y = (row - (rows - 1) / 2) * 0.5 + 0.08
        for k in range(int((body.x2 - body.x1 - 1.0) / 0.24)):
            tall = 0.26 if (part.number >> (k % 5)) & 1 else 0.2
            pen.rect(centred(body.x1 + 0.62 + k * 0.24, y, 0.13, tall), _tinted(colour, 1.0, 52))


def _standing_body(part: PlacedPart) -> Rect:
    """What one sees from above of a chip that stands on the pad of its fault."""
    body, pad = part.kind.body_mm, part.kind.pads_mm[(part.fault or Fault("", (0,))).pads[0]]
    side = np.sign(pad.centre[0])
    foot = side * (body.x2 + 0.06)
    top = foot - side * 0.62 * (body.y2 - body.y1)
    return Rect(min(foot, top), body.y1, max(foot, top), body.y2)


def _tombstone(pen: Pen, part: PlacedPart) -> None:
    """A chip on one end: its other terminal faces the camera, with a strip of its leaning side below it."""
    standing = _standing_body(part)
    low, high = BODY_COLOURS[part.kind.look]
    colour = _tinted(low, 1.0 - part.tone), _tinted(high, part.tone)
    side_colour = tuple(a + b for a, b in zip(*colour, strict=True))
    side = np.sign(standing.centre[0])
    inner = standing.x1 if side > 0 else standing.x2
    lean = Rect(min(inner, inner - side * 0.3), standing.y1, max(inner, inner - side * 0.3), standing.y2)
    pen.rect(lean, (side_colour[0], side_colour[1], side_colour[2]))
    pen.rect(standing, _tinted(TIN, 0.6), 0.06)
    pen.rect(standing.grown(-0.07), _tinted(TIN, 1.12), 0.06)
    pen.rect(standing.grown(-0.2), _tinted(TIN, 0.94), 0.05)
