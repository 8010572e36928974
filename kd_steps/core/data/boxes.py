"""Boxes as arrays: two notations, and the faults a box can have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]

CORNERS = ["x1_px", "y1_px", "x2_px", "y2_px"]  # of a table of boxes

# Tools round coordinates: a box may overshoot the picture by this much, and `clip` takes it back.
ROUNDING_PX = 0.5


def yolo_to_xyxy(boxes_cxcywh: Boxes, width_px: int, height_px: int) -> Boxes:
    """Normalised centre, width, height (n, 4) → corners in pixels (n, 4)."""
    centre, size = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:]
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    return corners * np.array([width_px, height_px, width_px, height_px], dtype=np.float64)


def xyxy_to_yolo(boxes_xyxy_px: Boxes, width_px: int, height_px: int) -> Boxes:
    """Corners in pixels (n, 4) → normalised centre, width, height (n, 4)."""
    low, high = boxes_xyxy_px[:, :2], boxes_xyxy_px[:, 2:]
    centred = np.concatenate([(low + high) / 2, high - low], axis=1)
    return centred / np.array([width_px, height_px, width_px, height_px], dtype=np.float64)


def box_fault(box_xyxy_px: NDArray[np.float64], width_px: int, height_px: int) -> str | None:
    """What is wrong with one box (4,) of a picture, or None.

    A box must be finite, have a positive area and lie inside the picture: 0 ≤ x1 < x2 ≤ width, the same for y; half a
    pixel of rounding is forgiven.
    """
    x1, y1, x2, y2 = (float(value) for value in box_xyxy_px)
    told = f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) px"
    if not np.isfinite(box_xyxy_px).all():
        return f"{told} has a coordinate that is not a finite number"
    if x1 >= x2 or y1 >= y2:
        return f"{told} has no area; it needs x1 < x2 and y1 < y2"
    overshoot_px = max(-x1, -y1, x2 - width_px, y2 - height_px)
    if overshoot_px > ROUNDING_PX or x1 >= width_px or y1 >= height_px or x2 <= 0 or y2 <= 0:
        return f"{told} reaches outside the picture of {width_px} × {height_px} px; clip it or mend the coordinates"
    return None


def clip(boxes_xyxy_px: Boxes, width_px: int, height_px: int) -> Boxes:
    """The boxes (n, 4) cut at the picture's edges."""
    limits = np.array([width_px, height_px, width_px, height_px], dtype=np.float64)
    return np.clip(boxes_xyxy_px, 0, limits)


def covered_share(boxes_xyxy_px: Boxes, covers_xyxy_px: Boxes) -> NDArray[np.float64]:
    """Share (0-1) of the area of each box (n, 4) that its worst single cover (m, 4) hides; (n,), 0 without covers."""
    if not len(boxes_xyxy_px) or not len(covers_xyxy_px):
        return np.zeros(len(boxes_xyxy_px))
    low = np.maximum(boxes_xyxy_px[:, None, :2], covers_xyxy_px[None, :, :2])
    high = np.minimum(boxes_xyxy_px[:, None, 2:], covers_xyxy_px[None, :, 2:])
    shared: NDArray[np.float64] = np.clip(high - low, 0, None).prod(axis=2)
    area = (boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]).prod(axis=1)
    share: NDArray[np.float64] = (shared / area[:, None]).max(axis=1)
    return share


def iou_matrix(first_xyxy: Boxes, second_xyxy: Boxes) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes.

    Args:
        first_xyxy: corners, shape (n, 4).
        second_xyxy: corners in the same unit, shape (m, 4).

    Returns:
        Shape (n, m), in [0, 1]; 0 where both boxes are empty.
    """
    top_left = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])
    bottom_right = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    sides = np.clip(bottom_right - top_left, 0, None)
    intersection = sides[..., 0] * sides[..., 1]
    first_area = np.prod(first_xyxy[:, 2:] - first_xyxy[:, :2], axis=1)
    second_area = np.prod(second_xyxy[:, 2:] - second_xyxy[:, :2], axis=1)
    union = first_area[:, None] + second_area[None, :] - intersection
    ious: NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return ious


def unpaired(found: NDArray[np.float64], expected: NDArray[np.float64], tolerance: float) -> tuple[int, int] | None:
    """Two rows that are left over when as many rows as possible are paired one to one; None if all go together.

    Rows are paired in any order: sorting both tables would tear rows apart that a rounding orders otherwise.

    Args:
        found, expected: as many rows each, (n, k).
        tolerance: the most that two values of a pair may be apart.
    """
    from scipy.optimize import linear_sum_assignment  # too slow to import for all that only needs boxes

    far = np.abs(found[:, None] - expected[None]).max(axis=2, initial=0) > tolerance
    pairs = zip(*linear_sum_assignment(far), strict=True)
    return next(((int(mine), int(theirs)) for mine, theirs in pairs if far[mine, theirs]), None)
