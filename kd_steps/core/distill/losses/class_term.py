"""The class term: per-class Bernoulli KL, weighted by disagreement.

A detector's class outputs are independent sigmoids, so the softmax KL of classification would throw away the absolute
scores (and vanish with one class). Each class is a Bernoulli variable instead, as in BCKD (Yang et al., "Bridging
Cross-task Protocol Inconsistency for Distillation in Dense Object Detection", ICCV 2023, arXiv 2308.14286), with the
temperature of Hinton et al. (arXiv 1503.02531).
"""

from __future__ import annotations

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
        teacher's top scores; at least over 1, so that what it hardly sees is not raised to full weight. Zero where
        student equals teacher, and where there is no anchor.

    Raises:
        ValueError: T is not positive, or the shapes differ.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"student {tuple(student_logits.shape)} and teacher {tuple(teacher_logits.shape)} differ")
    divergence = _divergence(student_logits, teacher_logits, temperature)
    if divergence.numel() == 0:
        return divergence.sum()
    scores = teacher_logits.detach().float().sigmoid()
    weight = (scores - student_logits.detach().float().sigmoid()).abs()
    return temperature**2 * (weight * divergence).sum() / scores.amax(dim=1).sum().clamp(min=1.0)


def background_term(
    student_logits: Tensor, kept: Tensor, ceiling: Tensor, teacher_scores: Tensor, temperature: float
) -> Tensor:
    """Bernoulli KL of the class scores at the anchors that the teacher did not keep.

    All that is known of them is that the teacher's scores are not above the ceiling. The student is held to that and
    to no more: its scores below the ceiling are right, and above it they are compared with the ceiling. Without this,
    nothing would take back what a student sees on the bare board of a picture that has no labels.

    Args:
        student_logits: shape (batch, classes, anchors).
        kept: anchors that the teacher kept, bool of shape (batch, anchors).
        ceiling: the highest score of a view's other anchors, 0-1, shape (batch,).
        teacher_scores: the teacher's top scores at the kept anchors; their sum is what :func:`class_term` divides by.
        temperature: T > 0, as of :func:`class_term`.

    Returns:
        Scalar, fp32, with the weight and the divisor of :func:`class_term`. Zero where the student stays below the
        ceiling.

    Raises:
        ValueError: T is not positive.
    """
    limit = ceiling.detach().float()[:, None, None].expand(student_logits.shape)
    excess = student_logits.detach().float().sigmoid() - limit
    above = (excess > 0) & ~kept[:, None]
    divergence = _divergence(student_logits[above], limit[above].logit(eps=1e-7), temperature)
    return temperature**2 * (excess[above] * divergence).sum() / teacher_scores.sum().clamp(min=1.0)


def _divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL of Bernoulli variables, element by element, with both sides divided by the temperature."""
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    student, teacher = student_logits.float() / temperature, teacher_logits.float().detach() / temperature
    cross_entropy = functional.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none")
    return cross_entropy - bernoulli_entropy(teacher)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of Bernoulli variables given by logits, any shape; exact for large logits too."""
    probability = logits.sigmoid()
    return -(probability * functional.logsigmoid(logits) + (1 - probability) * functional.logsigmoid(-logits))
