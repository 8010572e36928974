"""Which pictures a person should see, and what an engine did on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kd_steps.core.data.boxes import CORNERS, iou_matrix


@dataclass(frozen=True)
class Marks:
    """What an engine did on one picture.

    Attributes:
        hits: whether each detection hit an object of its class, shape (n,).
        found: whether each object was hit, shape (m,).
    """

    hits: NDArray[np.bool_]
    found: NDArray[np.bool_]


def mark_picture(objects: pd.DataFrame, detections: pd.DataFrame, iou: float = 0.5) -> Marks:
    """Give each detection of one picture, best score first, the free object of its class that it overlaps most.

    Args:
        objects: columns class_id, x1_px, y1_px, x2_px, y2_px.
        detections: the same columns and score.
        iou: least overlap of a hit.
    """
    overlaps = iou_matrix(detections[CORNERS].to_numpy(np.float64), objects[CORNERS].to_numpy(np.float64))
    same = detections["class_id"].to_numpy()[:, None] == objects["class_id"].to_numpy()[None, :]
    free_overlaps = np.where(same, overlaps, -1.0)
    hits, found = np.zeros(len(detections), np.bool_), np.zeros(len(objects), np.bool_)
    if len(objects):
        for row in np.argsort(-detections["score"].to_numpy(np.float64), kind="stable"):
            best = int(np.argmax(np.where(found, -1.0, free_overlaps[row])))
            if not found[best] and free_overlaps[row, best] >= iou:
                hits[row] = found[best] = True
    return Marks(hits, found)


def choose_pictures(
    classes_of: Mapping[str, Sequence[str]], errors_of: Mapping[str, int], count: int
) -> list[tuple[str, str]]:
    """Choose pictures that show every class and do not hide the worst.

    First the picture with most errors, then pictures that bring the most classes not yet shown, then those with the
    fewest errors; ties by name, so that the choice is the same each time.

    Args:
        classes_of: picture → the classes of its objects; pictures without objects are not chosen.
        errors_of: picture → misses and false alarms of the student.
        count: most pictures.

    Returns:
        Picture and why it was chosen.
    """
    left = sorted(picture for picture, classes in classes_of.items() if classes)
    chosen: list[tuple[str, str]] = []
    shown: set[str] = set()
    while left and len(chosen) < count:
        if not chosen and max(errors_of[p] for p in left) > 0:
            picture, why = max(left, key=lambda p: errors_of[p]), "the student's worst picture"
        else:
            picture = max(left, key=lambda p: (len(set(classes_of[p]) - shown), -errors_of[p]))
            fresh = sorted(set(classes_of[picture]) - shown)
            why = f"shows {', '.join(fresh)}" if fresh else "one of the student's best"
        left.remove(picture)
        shown |= set(classes_of[picture])
        chosen.append((picture, why))
    return chosen
