"""How far a teacher's stored answers are from those it gives now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd_steps.core.detect.answers import Answer, keep_anchors
from kd_steps.core.detect.neck import NeckAnswer
from kd_steps.core.detect.outputs import decode_sides
from kd_steps.core.detect.teacher_targets import TeacherTargets


@dataclass(frozen=True)
class AnswerErrors:
    """Errors of stored answers: the largest over some views.

    Attributes:
        anchors: stored anchors that were compared.
        class_probability: of any class at a stored anchor.
        box_side_px: of any side at a stored anchor.
        kept_score: of an anchor that is stored and would not be kept now, or the reverse: how far its score lies from
            the least score that is kept.
        attention: of a cell's attention, which is a share of its level's largest.
        pooled: of a pooled channel, as a share of the largest.
        vectors: of a channel of a neck vector, as a share of the largest; where both have a vector.
    """

    anchors: int = 0
    class_probability: float = 0.0
    box_side_px: float = 0.0
    kept_score: float = 0.0
    attention: float = 0.0
    pooled: float = 0.0
    vectors: float = 0.0


def largest(errors: Sequence[AnswerErrors]) -> AnswerErrors:
    """The largest errors of several answers."""
    names = [field.name for field in fields(AnswerErrors) if field.name != "anchors"]
    found = {name: max((getattr(e, name) for e in errors), default=0.0) for name in names}
    return AnswerErrors(anchors=sum(e.anchors for e in errors), **found)


def target_errors(
    stored: TeacherTargets, now: TeacherTargets, imgsz_px: int, score_threshold: float, max_anchors: int
) -> AnswerErrors:
    """Errors of stored targets.

    Args:
        stored: as it came out of the cache.
        now: the answer to the same view, with every anchor in it.
        imgsz_px: side of the view.
        score_threshold: least top class score of a kept anchor.
        max_anchors: most anchors kept.
    """
    strides_px = np.concatenate([np.full(cells, imgsz_px / math.sqrt(cells)) for cells in stored.cells])
    errors = [_answer_errors(stored.one_to_many, now.one_to_many, strides_px, score_threshold, max_anchors)]
    if stored.one_to_one is not None and now.one_to_one is not None:
        errors.append(_answer_errors(stored.one_to_one, now.one_to_one, strides_px, score_threshold, max_anchors))
    return largest([*errors, _neck_errors(stored, now)])


def _answer_errors(
    stored: Answer, now: Answer, strides_px: NDArray[np.float64], score_threshold: float, max_anchors: int
) -> AnswerErrors:
    """Errors of one branch."""
    count, classes = len(strides_px), stored.class_logits.shape[1]
    logits = np.full((count, classes), -np.inf, np.float32)  # a score that underflows to 0 is none
    bins = np.zeros((count, *now.box_bins.shape[1:]), np.float32)
    logits[now.anchors], bins[now.anchors] = now.class_logits, now.box_bins
    there = stored.anchors
    scores = _probability(logits.max(axis=1))
    kept = keep_anchors(torch.from_numpy(logits.T), score_threshold, max_anchors).numpy()
    least = scores[kept].min() if len(kept) == max_anchors else score_threshold
    other = np.setxor1d(kept, there)
    return AnswerErrors(
        anchors=len(there),
        class_probability=_largest(_probability(stored.class_logits) - _probability(logits[there])),
        box_side_px=_largest((_sides(stored.box_bins) - _sides(bins[there])) * strides_px[there, None]),
        kept_score=_largest(scores[other] - least),
    )


def _neck_errors(stored: TeacherTargets, now: TeacherTargets) -> AnswerErrors:
    """Errors of what the neck shows."""
    then, today = stored.neck, now.neck
    before, after = _vectors_by_anchor(then, stored.one_to_many), _vectors_by_anchor(today, now.one_to_many)
    both = before.keys() & after.keys()
    return AnswerErrors(
        attention=_largest(then.attention - today.attention),
        pooled=_relative(then.pooled.astype(np.float32), today.pooled.astype(np.float32)),
        vectors=max((_relative(before[anchor], after[anchor]) for anchor in both), default=0.0),
    )


def _vectors_by_anchor(neck: NeckAnswer, answer: Answer) -> dict[int, NDArray[np.float32]]:
    vectors = [vector.astype(np.float32) for level in neck.vectors for vector in level]
    return dict(zip(answer.anchors[neck.rows].tolist(), vectors, strict=True))


def _sides(bins: NDArray[Any]) -> NDArray[np.float64]:
    return decode_sides(torch.from_numpy(bins.astype(np.float32))).double().numpy()


def _probability(logits: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits.astype(np.float64)))


def _relative(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return _largest(a - b) / max(_largest(b), 1e-12)


def _largest(differences: NDArray[Any]) -> float:
    return float(np.abs(differences).max(initial=0.0))
