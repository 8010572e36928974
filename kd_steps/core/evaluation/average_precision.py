"""Average precision from kept matches, so that a thousand resamples of the pictures cost a second.

The definition is COCO's: precision made non-increasing, read at 101 recalls, averaged over IoU 0.50:0.05:0.95 and over
the classes that have objects (https://cocodataset.org/#detection-eval). The numbers of the whole sample are those of
the COCO evaluator, which a test holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kd_steps.core.evaluation.matching import IOU_THRESHOLDS, Matches

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RECALLS: FloatArray = np.linspace(0, 1, 101)
RESAMPLES_AT_ONCE = 64  # bounds the memory of a cumulative count over all detections


def resample_images(n_images: int, samples: int, generator: np.random.Generator) -> IntArray:
    """How often each picture is drawn in each bootstrap resample, shape (samples, n_images); rows add up to n_images.

    Two engines judged with one such table are compared pairwise.
    """
    if n_images == 0:
        return np.zeros((samples, 0), dtype=np.int64)
    return generator.multinomial(n_images, np.full(n_images, 1 / n_images), size=samples).astype(np.int64)


def resample_boards(boards: Sequence[str], samples: int, generator: np.random.Generator) -> IntArray:
    """How often each picture counts in each bootstrap resample, where whole boards are drawn.

    Pictures of one board resemble each other, so that they tell less of other boards than as many boards would (the
    cluster bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997, §3.8).

    Args:
        boards: the board of each picture, shape (pictures,).
        samples: number of resamples.
        generator: source of the draws.

    Returns:
        Shape (samples, pictures).
    """
    names, place = np.unique(np.asarray(boards, dtype=str), return_inverse=True)
    drawn: IntArray = resample_images(len(names), samples, generator)[:, place]
    return drawn


def average_precision(matches: Matches, image_counts: IntArray | None = None) -> FloatArray:
    """Average precision of every class at every IoU threshold.

    Args:
        matches: from :func:`kd_steps.core.evaluation.matching.match_detections`.
        image_counts: how often each picture counts, shape (samples, images), as of :func:`resample_images`; by
            default one sample with every picture once.

    Returns:
        Shape (samples, classes, 10); NaN for a class that has no object in the sample.
    """
    n_images, n_classes = matches.n_objects.shape
    counts = np.ones((1, n_images), dtype=np.int64) if image_counts is None else image_counts
    ap = np.full((len(counts), n_classes, len(IOU_THRESHOLDS)), np.nan)
    for class_index in range(n_classes):
        for start in range(0, len(counts), RESAMPLES_AT_ONCE):
            rows = slice(start, start + RESAMPLES_AT_ONCE)
            ap[rows, class_index] = _class_precision(matches, class_index, counts[rows]).mean(axis=2)
    return ap


def mean_ap(ap: FloatArray, which: Literal["50_95", "50", "75"] = "50_95") -> FloatArray:
    """Mean of average precision over the classes that have objects.

    Args:
        ap: from :func:`average_precision`, shape (samples, classes, 10).
        which: over all thresholds, at IoU 0.50, or at IoU 0.75.

    Returns:
        Shape (samples,); NaN where no class has an object.
    """
    chosen = {"50_95": ap, "50": ap[..., :1], "75": ap[..., 5:6]}[which]
    known = ~np.isnan(chosen)
    total = np.where(known, chosen, 0).sum(axis=(1, 2))
    n = known.sum(axis=(1, 2))
    mean: FloatArray = np.divide(total, n, out=np.full(len(total), np.nan), where=n > 0)
    return mean


def precision_recall(matches: Matches, class_index: int) -> FloatArray:
    """Precision of one class at IoU 0.5 at each of the 101 recalls, shape (101,); NaN where it has no object."""
    counts = np.ones((1, len(matches.n_objects)), dtype=np.int64)
    curve: FloatArray = _class_precision(matches, class_index, counts)[0, 0]
    return curve


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Elementwise quotient; NaN where the denominator is 0 or unknown, since a ratio to nothing says nothing."""
    valid = np.isfinite(denominator) & (denominator > 0)
    quotient: FloatArray = np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=valid)
    return quotient


def false_alarms(detections: pd.DataFrame, image_ids: Sequence[str], operating_confidence: float) -> IntArray:
    """Detections at or above the operating confidence on each defect-free picture, shape (len(image_ids),).

    Args:
        detections: columns image_id and score.
        image_ids: the defect-free pictures, those without a detection too.
        operating_confidence: the least score the line acts on.
    """
    alarms = detections.loc[detections["score"] >= operating_confidence, "image_id"].value_counts()
    return np.asarray(alarms.reindex(list(image_ids), fill_value=0), dtype=np.int64)


def _class_precision(matches: Matches, class_index: int, counts: IntArray) -> FloatArray:
    """Interpolated precision of one class, shape (samples, 10, 101); NaN where a sample has no object of it.

    Recall moves only at a hit, and a miss can only lower precision, so the curve is read at the hits alone. A picture
    drawn k times moves k copies of its detections together; the copies of a hit raise precision step by step to its
    value after the last, which is the one that interpolation keeps: the result is that of the copied pictures.
    """
    own = matches.class_index == class_index
    images, hits = matches.image_index[own], matches.hits[own]
    n_objects = counts @ matches.n_objects[:, class_index]
    drawn = counts[:, images]
    n_found = np.cumsum(drawn, axis=1)
    precision = np.zeros((len(counts), len(IOU_THRESHOLDS), len(RECALLS)))
    for level in range(len(IOU_THRESHOLDS)):
        at = np.flatnonzero(hits[:, level])
        n_hits = np.cumsum(drawn[:, at], axis=1)
        reached = np.divide(n_hits, n_found[:, at], out=np.zeros(n_hits.shape), where=n_found[:, at] > 0)
        falling = np.maximum.accumulate(reached[:, ::-1], axis=1)[:, ::-1]
        recall = n_hits / np.maximum(n_objects, 1)[:, None]
        for sample in range(len(counts)):
            position = np.searchsorted(recall[sample], RECALLS, side="left")
            inside = position < len(at)
            precision[sample, level, inside] = falling[sample, position[inside]]
    precision[n_objects == 0] = np.nan
    return precision
