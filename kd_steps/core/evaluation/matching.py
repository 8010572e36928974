"""Which detections hit an object: COCO's greedy matching, kept per picture so that pictures can be resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kd_steps.core.data.boxes import CORNERS, iou_matrix

FloatArray = NDArray[np.float64]

IOU_THRESHOLDS: FloatArray = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class Matches:
    """Every detection of an engine with its hits, the highest score first.

    Attributes:
        image_index: picture of each detection, shape (n,).
        class_index: class of each detection, shape (n,).
        scores: shape (n,), falling.
        hits: whether a detection hit an object at each of ``IOU_THRESHOLDS``, shape (n, 10).
        n_objects: objects in each picture of each class, shape (images, classes).
    """

    image_index: NDArray[np.int64]
    class_index: NDArray[np.int64]
    scores: FloatArray
    hits: NDArray[np.bool_]
    n_objects: NDArray[np.int64]


def match_detections(
    objects: pd.DataFrame, detections: pd.DataFrame, image_ids: Sequence[str], class_ids: Sequence[int]
) -> Matches:
    """Match detections to objects of their picture and class, as COCO's ``evaluateImg`` does.

    In falling order of score, each detection takes the free object with the largest overlap that reaches the
    threshold; of equal overlaps the later object. There are no crowd regions and one area range, so nothing is
    ignored.

    Args:
        objects: ground truth; columns image_id, class_id, x1_px, y1_px, x2_px, y2_px.
        detections: the same columns and score.
        image_ids: the pictures that count, each once; rows of others are left out.
        class_ids: the classes that count, each once; rows of others are left out.
    """
    truth = _indexed(objects, image_ids, class_ids)
    found = _indexed(detections, image_ids, class_ids)
    order = np.lexsort((-found["score"].to_numpy(np.float64), found["image_index"].to_numpy()))
    found = found.iloc[order]
    n_objects = np.zeros((len(image_ids), len(class_ids)), dtype=np.int64)
    np.add.at(n_objects, (truth["image_index"].to_numpy(), truth["class_index"].to_numpy()), 1)

    hits = np.zeros((len(found), len(IOU_THRESHOLDS)), dtype=np.bool_)
    truth_rows = truth.groupby(["image_index", "class_index"], sort=False).indices
    truth_boxes, found_boxes = truth[CORNERS].to_numpy(np.float64), found[CORNERS].to_numpy(np.float64)
    for key, rows in found.groupby(["image_index", "class_index"], sort=False).indices.items():
        if key in truth_rows:
            hits[rows] = _take_greedily(iou_matrix(found_boxes[rows], truth_boxes[truth_rows[key]]))

    scores = found["score"].to_numpy(np.float64)
    ranking = np.argsort(-scores, kind="stable")
    return Matches(
        image_index=found["image_index"].to_numpy(np.int64)[ranking],
        class_index=found["class_index"].to_numpy(np.int64)[ranking],
        scores=scores[ranking],
        hits=hits[ranking],
        n_objects=n_objects,
    )


def _indexed(boxes: pd.DataFrame, image_ids: Sequence[str], class_ids: Sequence[int]) -> pd.DataFrame:
    """The rows of the pictures and classes that count, with their positions in the two sequences."""
    indexed = boxes.assign(
        image_index=pd.Index(image_ids).get_indexer(pd.Index(boxes["image_id"])),
        class_index=pd.Index(class_ids).get_indexer(pd.Index(boxes["class_id"])),
    )
    return indexed[(indexed["image_index"] >= 0) & (indexed["class_index"] >= 0)]


def _take_greedily(overlaps: FloatArray) -> NDArray[np.bool_]:
    """Hits at every threshold, shape (detections, 10); ``overlaps`` is (detections, objects), best score first."""
    n_detections, n_objects = overlaps.shape
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    hits = np.zeros((n_detections, len(thresholds)), dtype=np.bool_)
    taken = np.zeros((len(thresholds), n_objects), dtype=np.bool_)
    levels = np.arange(len(thresholds))
    for row in np.flatnonzero(overlaps.max(axis=1) >= thresholds[0]):
        free = np.where(taken, -1.0, overlaps[row])
        best = n_objects - 1 - np.argmax(free[:, ::-1], axis=1)
        hit = free[levels, best] >= thresholds
        hits[row] = hit
        taken[levels[hit], best[hit]] = True
    return hits
