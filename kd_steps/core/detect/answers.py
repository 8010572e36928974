"""What a head says of a view, cut down to the anchors that it scores: arrays for the cache, tensors for the losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """A head's answer to one view.

    Attributes:
        anchors: indices of the kept anchors, ascending, shape (n,).
        class_logits: shape (n, classes), float16 or float32.
        box_bins: raw box outputs, shape (n, 4, bins); with one bin, the distances themselves.
        ceiling: no class score of an anchor that is not kept is above it, 0-1.
    """

    anchors: NDArray[np.integer[Any]]
    class_logits: NDArray[np.floating[Any]]
    box_bins: NDArray[np.floating[Any]]
    ceiling: float


@dataclass(frozen=True)
class AnswerBatch:
    """Answers to a batch of views, laid end to end.

    Attributes:
        sample: which view of the batch each anchor belongs to, int64 of shape (m,).
        anchor: index of the anchor, int64 of shape (m,).
        class_logits: shape (m, classes).
        box_bins: shape (m, 4, bins).
        ceiling: no class score of a view's other anchors is above it, float32 of shape (batch,).
    """

    sample: Tensor
    anchor: Tensor
    class_logits: Tensor
    box_bins: Tensor
    ceiling: Tensor

    def to(self, device: torch.device) -> AnswerBatch:
        """The same answers on another device."""
        return AnswerBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def keep_anchors(class_logits: Tensor, score_threshold: float, max_anchors: int) -> Tensor:
    """Indices of the anchors worth keeping, ascending.

    Args:
        class_logits: one view's logits, shape (classes, anchors).
        score_threshold: least top class score, 0-1.
        max_anchors: most anchors kept; the best-scored win.
    """
    scores = class_logits.float().amax(dim=0).sigmoid()
    best = scores.topk(min(max_anchors, scores.numel())).indices
    return best[scores[best] > score_threshold].sort().values


def score_ceiling(class_logits: NDArray[np.floating[Any]], score_threshold: float, max_anchors: int) -> float:
    """The highest class score that an anchor which was not kept can have, 0-1.

    Args:
        class_logits: of the kept anchors, shape (n, classes).
        score_threshold: least top class score of a kept anchor.
        max_anchors: most anchors kept; where all places are taken, those left out may be as good as the last kept.
    """
    if len(class_logits) < max_anchors:
        return score_threshold
    least = float(class_logits.astype(np.float64).max(axis=1).min()) if len(class_logits) else math.inf
    return max(score_threshold, 1 / (1 + math.exp(-least)))


def sparse_answers(class_logits: Tensor, box_outputs: Tensor, score_threshold: float, max_anchors: int) -> list[Answer]:
    """Cut a batch of dense head outputs down to answers.

    Args:
        class_logits: shape (batch, classes, anchors).
        box_outputs: shape (batch, 4 · bins, anchors).
        score_threshold: least top class score of a kept anchor.
        max_anchors: most anchors kept a view.
    """
    answers = []
    for logits, boxes in zip(class_logits, box_outputs, strict=True):
        kept = keep_anchors(logits, score_threshold, max_anchors)
        bins = boxes.float()[:, kept].T.reshape(len(kept), 4, len(boxes) // 4)
        scores = logits.float()[:, kept].T.contiguous().cpu().numpy()
        answers.append(
            Answer(
                anchors=kept.cpu().numpy().astype(np.int32),
                class_logits=scores,
                box_bins=bins.contiguous().cpu().numpy(),
                ceiling=score_ceiling(scores, score_threshold, max_anchors),
            )
        )
    return answers


def batch_answers(answers: Sequence[Answer]) -> AnswerBatch:
    """Lay answers end to end, in the order of the batch."""
    counts = [len(answer.anchors) for answer in answers]
    return AnswerBatch(
        sample=torch.repeat_interleave(torch.arange(len(answers)), torch.tensor(counts, dtype=torch.int64)),
        anchor=torch.from_numpy(np.concatenate([a.anchors for a in answers]).astype(np.int64)),
        class_logits=torch.from_numpy(np.concatenate([a.class_logits for a in answers]).astype(np.float32)),
        box_bins=torch.from_numpy(np.concatenate([a.box_bins for a in answers]).astype(np.float32)),
        ceiling=torch.tensor([answer.ceiling for answer in answers], dtype=torch.float32),
    )


def kept_anchors(batch: AnswerBatch, anchors: int) -> Tensor:
    """Where a batch has answers, bool of shape (batch, anchors)."""
    kept = torch.zeros(len(batch.ceiling), anchors, dtype=torch.bool, device=batch.sample.device)
    kept[batch.sample, batch.anchor] = True
    return kept


def student_at(class_logits: Tensor, box_outputs: Tensor, batch: AnswerBatch) -> tuple[Tensor, Tensor]:
    """The student's outputs at the anchors the teacher kept.

    Args:
        class_logits: shape (batch, classes, anchors).
        box_outputs: shape (batch, 4 · bins, anchors).
        batch: the teacher's answers to the same views.

    Returns:
        Class logits of shape (m, classes) and box outputs of shape (m, 4, bins).
    """
    logits = class_logits[batch.sample, :, batch.anchor]
    boxes = box_outputs[batch.sample, :, batch.anchor]
    return logits, boxes.reshape(len(boxes), 4, box_outputs.shape[1] // 4)
