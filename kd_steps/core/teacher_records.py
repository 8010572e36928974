"""A teacher's answer to a view: only the anchors it scores, as arrays for the cache and tensors for the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class TeacherRecord:
    """The teacher's answer to one view.

    Attributes:
        pixel_hash: 64-bit hash of the view's exact uint8 pixels.
        anchors: indices of the kept anchors, ascending, shape (n,).
        class_logits: shape (n, classes), float16 or float32.
        box_bins: raw box outputs, shape (n, 4, bins); with one bin, the distances themselves.
    """

    pixel_hash: int
    anchors: NDArray[np.integer[Any]]
    class_logits: NDArray[np.floating[Any]]
    box_bins: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TeacherBatch:
    """The teacher's answers to a batch of views, laid end to end.

    Attributes:
        sample: which view of the batch each anchor belongs to, int64 of shape (m,).
        anchor: index of the anchor, int64 of shape (m,).
        class_logits: shape (m, classes).
        box_bins: shape (m, 4, bins).
    """

    sample: Tensor
    anchor: Tensor
    class_logits: Tensor
    box_bins: Tensor

    def to(self, device: torch.device) -> TeacherBatch:
        """The same answers on another device."""
        return TeacherBatch(*(t.to(device) for t in (self.sample, self.anchor, self.class_logits, self.box_bins)))


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


def sparse_records(
    class_logits: Tensor, box_outputs: Tensor, pixel_hashes: Sequence[int], score_threshold: float, max_anchors: int
) -> list[TeacherRecord]:
    """Cut a batch of dense head outputs down to records.

    Args:
        class_logits: shape (batch, classes, anchors).
        box_outputs: shape (batch, 4 · bins, anchors).
        pixel_hashes: one a view.
        score_threshold: least top class score of a kept anchor.
        max_anchors: most anchors kept a view.
    """
    records = []
    for logits, boxes, pixel_hash in zip(class_logits, box_outputs, pixel_hashes, strict=True):
        kept = keep_anchors(logits, score_threshold, max_anchors)
        bins = boxes.float()[:, kept].T.reshape(len(kept), 4, len(boxes) // 4)
        records.append(
            TeacherRecord(
                pixel_hash=pixel_hash,
                anchors=kept.cpu().numpy().astype(np.int32),
                class_logits=logits.float()[:, kept].T.contiguous().cpu().numpy(),
                box_bins=bins.contiguous().cpu().numpy(),
            )
        )
    return records


def batch_records(records: Sequence[TeacherRecord]) -> TeacherBatch:
    """Lay records end to end, in the order of the batch."""
    counts = [len(record.anchors) for record in records]
    return TeacherBatch(
        sample=torch.repeat_interleave(torch.arange(len(records)), torch.tensor(counts, dtype=torch.int64)),
        anchor=torch.from_numpy(np.concatenate([r.anchors for r in records]).astype(np.int64)),
        class_logits=torch.from_numpy(np.concatenate([r.class_logits for r in records]).astype(np.float32)),
        box_bins=torch.from_numpy(np.concatenate([r.box_bins for r in records]).astype(np.float32)),
    )


def student_at(class_logits: Tensor, box_outputs: Tensor, batch: TeacherBatch) -> tuple[Tensor, Tensor]:
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
