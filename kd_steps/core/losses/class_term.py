"""The class term: per-class Bernoulli KL, weighted by disagreement.

A detector's class outputs are independent sigmoids, so the softmax KL of classification would throw away the absolute
scores (and vanish with one class). Each class is a Bernoulli variable instead, as in BCKD (Yang et al., "Bridging
Cross-task Protocol Inconsistency for Distillation in Dense Object Detection", ICCV 2023, arXiv 2308.14286), with the
temperature of Hinton et al. (arXiv 1503.02531).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def class_term(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Bernoulli KL of the class scores at the anchors the teacher kept.

    Args:
        student_logits: shape (anchors, classes).
        teacher_logits: same shape; no gradient flows into it.
        temperature: T > 0; both sides are divided by it, and the term is multiplied by T².

    Returns:
        Scalar, fp32: the sum over anchors and classes, weighted by |σ(teacher) − σ(student)|, over the sum of the
        teacher's top scores. Zero where student equals teacher, and where there is no anchor.

    Raises:
        ValueError: T is not positive, or the shapes differ.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"student {tuple(student_logits.shape)} and teacher {tuple(teacher_logits.shape)} differ")
    if student_logits.numel() == 0:
        return student_logits.float().sum()
    student, teacher = student_logits.float(), teacher_logits.float().detach()
    soft_target = (teacher / temperature).sigmoid()
    divergence = functional.binary_cross_entropy_with_logits(student / temperature, soft_target, reduction="none")
    divergence = divergence - bernoulli_entropy(teacher / temperature)
    weight = (teacher.sigmoid() - student.detach().sigmoid()).abs()
    top_scores = teacher.sigmoid().amax(dim=1)
    return temperature**2 * (weight * divergence).sum() / top_scores.sum().clamp(min=1.0)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of Bernoulli variables given by logits, any shape; exact for large logits too."""
    probability = logits.sigmoid()
    return -(probability * functional.logsigmoid(logits) + (1 - probability) * functional.logsigmoid(-logits))


def top_score(teacher_logits: Tensor) -> Tensor:
    """The teacher's highest class score of each anchor, (anchors, classes) → (anchors,), 0-1."""
    return (
        teacher_logits.float().sigmoid().amax(dim=-1)
        if teacher_logits.numel()
        else torch.zeros(teacher_logits.shape[0], device=teacher_logits.device)
    )
