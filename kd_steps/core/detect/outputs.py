"""What a detector's head and neck give for a batch, and how it is read: scores and sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BranchOutputs:
    """A branch of the student's head: class logits (batch, classes, anchors), boxes (batch, 4 · bins, anchors)."""

    class_logits: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class DetectorOutputs:
    """What the terms compare with the teacher.

    Attributes:
        one_to_many: the head; of a head with two branches, the one-to-many branch, whose gradient reaches the neck.
        one_to_one: the one-to-one branch, or None.
        features: the neck's outputs, one map a level, (batch, channels, height, width).
    """

    one_to_many: BranchOutputs
    one_to_one: BranchOutputs | None
    features: Sequence[Tensor]


def top_score(teacher_logits: Tensor) -> Tensor:
    """The teacher's highest class score of each anchor, (anchors, classes) → (anchors,), 0-1."""
    return (
        teacher_logits.float().sigmoid().amax(dim=-1)
        if teacher_logits.numel()
        else torch.zeros(teacher_logits.shape[0], device=teacher_logits.device)
    )


def decode_sides(bins: Tensor) -> Tensor:
    """Expected distance of each side, (anchors, 4, bins) → (anchors, 4), in strides; one bin is the distance itself."""
    if bins.shape[-1] == 1:
        return bins[..., 0]
    centres = torch.arange(bins.shape[-1], dtype=torch.float32, device=bins.device)
    return (bins.float().softmax(dim=-1) * centres).sum(dim=-1)
