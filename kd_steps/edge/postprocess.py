"""Raw network output becomes boxes, scores and classes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

OutputFormat = Literal["anchors", "end2end"]

MAX_CANDIDATES = 30_000  # boxes that enter NMS; as many as Ultralytics lets in


@dataclass(frozen=True)
class Detections:
    """What was found in one picture, best first.

    Attributes:
        boxes_xyxy_px: corners, float32 of shape (n, 4).
        scores: float32 of shape (n,), 0-1.
        class_ids: int64 of shape (n,), index into the engine's class names.
    """

    boxes_xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Found:
    """Detections of an engine on a list of pictures, in the order of the pictures, the best of each first.

    Attributes:
        image: position of the picture in the list, int32 of shape (n,).
        column: output column of the class, int16 of shape (n,).
        score: 0-1, float32 of shape (n,).
        box_xyxy_px: corners in the picture, float32 of shape (n, 4).
    """

    image: NDArray[np.int32]
    column: NDArray[np.int16]
    score: NDArray[np.float32]
    box_xyxy_px: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.score)

    def of_image(self, index: int) -> Found:
        """The detections of one picture."""
        return Found(*(getattr(self, field.name)[self.image == index] for field in fields(self)))


def decode(
    output: NDArray[np.float32], output_format: OutputFormat, *, confidence: float, iou: float, max_detections: int
) -> Detections:
    """Detections in pixels of the network input.

    Args:
        output: ``anchors``: shape (1, 4 + classes, anchors), rows centre x, centre y, width, height, then a score a
            class. ``end2end``: shape (1, n, 6), columns x1, y1, x2, y2, score, class.
        output_format: which of the two.
        confidence: least score that counts. An anchor counts once for each class that reaches it.
        iou: overlap above which the weaker of two boxes of one class is dropped; not used by ``end2end``.
        max_detections: most detections a picture.
    """
    if output_format == "end2end":
        return _decode_end2end(output[0], confidence, max_detections)
    boxes_cxcywh_px, scores = output[0, :4].T, output[0, 4:]
    class_ids, anchors = np.nonzero(scores >= confidence)
    candidate_scores = scores[class_ids, anchors]
    if len(candidate_scores) > MAX_CANDIDATES:
        best = np.argsort(-candidate_scores, kind="stable")[:MAX_CANDIDATES]
        class_ids, anchors, candidate_scores = class_ids[best], anchors[best], candidate_scores[best]
    boxes_xyxy_px = xyxy_of_cxcywh(boxes_cxcywh_px[anchors])
    kept = class_aware_nms(boxes_xyxy_px, candidate_scores, class_ids, iou, max_detections)
    return Detections(boxes_xyxy_px[kept], candidate_scores[kept], class_ids[kept].astype(np.int64))


def xyxy_of_cxcywh(boxes_cxcywh_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """Corners from centre, width and height; both of shape (n, 4)."""
    half = boxes_cxcywh_px[:, 2:] / 2
    corners = np.concatenate([boxes_cxcywh_px[:, :2] - half, boxes_cxcywh_px[:, :2] + half], axis=1)
    return corners.astype(np.float32, copy=False)


def class_aware_nms(
    boxes_xyxy_px: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    iou: float,
    max_detections: int,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression within each class, as ``torchvision.ops.batched_nms`` does it.

    All classes go through one loop in order of score, so that it can stop at ``max_detections``.

    Args:
        boxes_xyxy_px: shape (n, 4).
        scores: shape (n,).
        class_ids: shape (n,).
        iou: a box is dropped if its overlap with a better box of its class is greater.
        max_detections: the loop ends after this many.

    Returns:
        Indices of the boxes that stay, best score first; among equal scores the earlier first.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes_xyxy_px[order].T
    classes, areas_px2 = class_ids[order], (x2 - x1) * (y2 - y1)
    alive = np.ones(len(order), dtype=bool)
    kept: list[int] = []
    limit = np.float64(iou)  # a Python float would be rounded to float32, and the comparison with it
    for best in range(len(order)):
        if not alive[best]:
            continue
        kept.append(best)
        if len(kept) == max_detections:
            break
        rest = best + 1 + np.flatnonzero(alive[best + 1 :] & (classes[best + 1 :] == classes[best]))
        width_px = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        height_px = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        shared_px2 = np.maximum(width_px, 0) * np.maximum(height_px, 0)
        with np.errstate(invalid="ignore", divide="ignore"):  # two boxes without area: nan, which drops neither
            overlap = shared_px2 / (areas_px2[best] + areas_px2[rest] - shared_px2)
        alive[rest[overlap > limit]] = False
    return order[kept] if kept else np.empty(0, dtype=np.int64)


def _decode_end2end(rows: NDArray[np.float32], confidence: float, max_detections: int) -> Detections:
    rows = rows[rows[:, 4] >= confidence]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][:max_detections]
    return Detections(
        np.ascontiguousarray(rows[:, :4]), rows[:, 4].copy(), np.rint(rows[:, 5]).astype(np.int64, copy=False)
    )


def output_errors(
    found: NDArray[np.float32], expected: NDArray[np.float32], output_format: OutputFormat, imgsz_px: int
) -> NDArray[np.float64]:
    """How far two raw outputs of one picture lie apart, box sides as shares of the input and scores as they are.

    ``end2end`` rows are ranked by score, and a difference in the last bit may swap two of them or push one over the
    edge of the list; so each row is compared with its nearest of the same class, or with the least score that made it
    into the other list.

    Args:
        found: raw output, see :func:`decode`.
        expected: raw output of the same shape.
        output_format: which of the two formats.
        imgsz_px: side of the network input.

    Returns:
        The largest difference of each anchor, shape (anchors,), or of each row of either list, shape (2 n,); infinite
        where ``found`` holds a number that is none.

    Raises:
        ValueError: the shapes differ.
    """
    if found.shape != expected.shape:
        raise ValueError(f"the output has shape {found.shape}, expected {expected.shape}")
    if not np.isfinite(found).all():
        return np.full(1, np.inf)
    if output_format == "anchors":
        difference = np.abs(found[0].astype(np.float64) - expected[0])
        difference[:4] /= imgsz_px
        return np.asarray(difference.max(axis=0))
    return np.concatenate([_row_errors(found[0], expected[0], imgsz_px), _row_errors(expected[0], found[0], imgsz_px)])


def _row_errors(rows: NDArray[np.float32], others: NDArray[np.float32], imgsz_px: int) -> NDArray[np.float64]:
    """Distance of each row to the other list."""
    scale = np.array([1 / imgsz_px] * 4 + [1.0])
    distance = np.abs(rows[:, None, :5] * scale - others[None, :, :5] * scale).max(axis=2)
    distance[rows[:, None, 5] != others[None, :, 5]] = np.inf
    beyond_the_edge = np.maximum(rows[:, 4].astype(np.float64) - others[:, 4].min(), 0)
    return np.asarray(np.minimum(distance.min(axis=1), beyond_the_edge))
