"""Dynamic strength: anchors where the student is far from its teacher weigh more than those it has learnt.

The idea of focal distillation and of the class term's own weight (arXiv 2308.14286), for the terms that have no such
weight: boxes and features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def class_gap(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """How far the student's score is from the teacher's in the teacher's top class, without a gradient.

    Args:
        student_logits: shape (anchors, classes).
        teacher_logits: same shape.

    Returns:
        |σ(teacher) − σ(student)| of each anchor, 0-1, shape (anchors,).
    """
    if not teacher_logits.numel():
        return torch.zeros(len(teacher_logits), device=teacher_logits.device)
    best = teacher_logits.detach().float().argmax(dim=1, keepdim=True)
    student = student_logits.detach().float().gather(1, best).sigmoid()
    return (teacher_logits.detach().float().gather(1, best).sigmoid() - student).abs().squeeze(1)


def harder_first(weight: Tensor, gap: Tensor, strength: float) -> Tensor:
    """Weights that grow with the gap and have the same sum.

    Args:
        weight: shape (anchors,).
        gap: shape (anchors,), 0-1.
        strength: what a gap of 1 adds, as a multiple of the weight; 0 gives ``weight`` itself.

    Raises:
        ValueError: the strength is negative.
    """
    if strength < 0:
        raise ValueError(f"strength must not be negative, got {strength}")
    if strength == 0:
        return weight
    raised = weight * (1 + strength * gap)
    return raised * (weight.sum() / raised.sum().clamp(min=1e-12))
