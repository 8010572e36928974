"""Where the words beside boxes stand, so that they stay in the picture and off each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

# Mean width of a character and height of a line, in font sizes: of a bold sans-serif, with room for a wide one.
CHARACTER_EM = 0.68
LINE_EM = 1.2
Rectangle = tuple[float, float, float, float]


def label_places(
    boxes_xyxy_px: Sequence[Rectangle], texts: Sequence[str], size_px: tuple[int, int], font_px: float
) -> list[tuple[float, float]]:
    """A place for every label: above its box where that is free, else below it, else a line or two further off.

    Args:
        boxes_xyxy_px: corners of the boxes, one a label.
        texts: the labels.
        size_px: width and height of the picture.
        font_px: size of the letters.

    Returns:
        left end and baseline of each label, px. A label stands wholly in the picture if it is not wider than that, and
        covers others as little as its places allow.
    """
    taken: list[Rectangle] = []
    places = []
    for box, text in zip(boxes_xyxy_px, texts, strict=True):
        candidates = _candidates(box, CHARACTER_EM * font_px * len(text), LINE_EM * font_px, size_px)
        best = min(candidates, key=lambda place: sum(_overlap(place, other) for other in taken))
        taken.append(best)
        places.append((best[0], best[3] - (LINE_EM - 1) * font_px))
    return places


def _candidates(box: Rectangle, width: float, line: float, size_px: tuple[int, int]) -> list[Rectangle]:
    """Rectangles of a label, the most wanted first."""
    x1, y1, x2, y2 = box
    tops = [y1 - line, y2, *(top for n in (1, 2, 3) for top in (y1 - (n + 1) * line, y2 + n * line))]
    right, bottom = max(size_px[0] - width, 0), max(size_px[1] - line, 0)
    inside = [top for top in tops if 0 <= top <= bottom] or [min(max(y1, 0), bottom)]
    lefts = [min(max(left, 0), right) for left in (x1, x2 - width)]
    return [(left, top, left + width, top + line) for top, left in product(inside, lefts)]


def _overlap(a: Rectangle, b: Rectangle) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
