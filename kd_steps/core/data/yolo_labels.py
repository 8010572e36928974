"""YOLO label text ↔ arrays, purely: reading the file is the caller's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Tools write 4 to 6 decimals: a box on the picture's edge may overshoot by their rounding, and is clipped back.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Labels:
    """The objects of one picture.

    Attributes:
        class_ids: int64 of shape (n,).
        boxes_cxcywh: normalised centre x, centre y, width, height, float64 of shape (n, 4).
    """

    class_ids: NDArray[np.int64]
    boxes_cxcywh: NDArray[np.float64]

    def without(self, class_ids: Sequence[int]) -> Labels:
        """The objects of other classes."""
        stays = ~np.isin(self.class_ids, class_ids)
        return Labels(self.class_ids[stays], self.boxes_cxcywh[stays])


@dataclass(frozen=True)
class LabelFault:
    """A line that cannot be used: its number (from 1) and what is wrong, with the mend."""

    line: int
    message: str


def parse_yolo(text: str, n_classes: int) -> tuple[Labels, list[LabelFault]]:
    """Parse the text of a YOLO label file.

    A line is ``class cx cy w h``, or ``class x1 y1 x2 y2 x3 y3 …`` (a polygon, taken by its bounding box). Empty lines
    are skipped; an empty text says that the picture has no objects.

    Returns:
        The objects of the lines that are right, and the faults of the others.
    """
    class_ids: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    faults: list[LabelFault] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            class_id, box = _parse_line(line, n_classes)
        except ValueError as error:
            faults.append(LabelFault(number, str(error)))
        else:
            class_ids.append(class_id)
            boxes.append(box)
    labels = Labels(np.array(class_ids, dtype=np.int64), np.array(boxes, dtype=np.float64).reshape(-1, 4))
    return labels, faults


def format_yolo(labels: Labels) -> str:
    """The text of a YOLO label file; coordinates keep 9 decimals (below a millionth of a pixel at 1,000 px)."""
    rows = zip(labels.class_ids.tolist(), labels.boxes_cxcywh.tolist(), strict=True)
    return "".join(f"{class_id} {cx:.9f} {cy:.9f} {w:.9f} {h:.9f}\n" for class_id, (cx, cy, w, h) in rows)


def _parse_line(line: str, n_classes: int) -> tuple[int, tuple[float, float, float, float]]:
    words = line.split()
    if len(words) < 5 or len(words) % 2 == 0:
        raise ValueError(
            f"found {len(words)} numbers; a line is 'class cx cy w h' (five), or a class and at least three points"
        )
    values = [_number(word) for word in words]
    class_id = int(values[0])
    if class_id != values[0] or not 0 <= class_id < n_classes:
        raise ValueError(
            f"class {words[0]} is out of range: data.yaml names {n_classes} classes, 0 to {n_classes - 1}; "
            "mend the number or add the name"
        )
    low_x, low_y, high_x, high_y = _corners(values[1:])
    if min(low_x, low_y) < -ROUNDING or max(high_x, high_y) > 1 + ROUNDING:
        raise ValueError(
            f"the box reaches outside the picture (x {low_x:g} to {high_x:g}, y {low_y:g} to {high_y:g}, allowed 0 to "
            "1); coordinates are shares of the width and height: divide pixels by them, or clip the box"
        )
    low_x, low_y, high_x, high_y = (min(max(value, 0.0), 1.0) for value in (low_x, low_y, high_x, high_y))
    if low_x >= high_x or low_y >= high_y:
        raise ValueError("the box has no area; width and height must be above 0, or delete the line")
    return class_id, ((low_x + high_x) / 2, (low_y + high_y) / 2, high_x - low_x, high_y - low_y)


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{word!r} is not a finite number; delete the line or label the object again")
    return value


def _corners(numbers: list[float]) -> tuple[float, float, float, float]:
    if len(numbers) == 4:
        cx, cy, w, h = numbers
        return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    return min(numbers[0::2]), min(numbers[1::2]), max(numbers[0::2]), max(numbers[1::2])
