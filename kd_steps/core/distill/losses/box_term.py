"""The box term: KL of the bins where both heads have the same, IoU and L1 of decoded sides where they have not.

Bins: localisation distillation (Zheng et al., "Localization Distillation for Dense Object Detection", CVPR 2022,
arXiv 2102.12252) on the distributions of Generalized Focal Loss (arXiv 2006.04388).
"""

from __future__ import annotations

import torch
from torch import Tensor


def bin_term(student_bins: Tensor, teacher_bins: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """KL divergence of the side distributions at the anchors the teacher kept.

    Args:
        student_bins: logits, shape (anchors, 4, bins).
        teacher_bins: same shape; no gradient flows into it.
        weight: shape (anchors,), the teacher's top score of each anchor.
        temperature: T > 0; the term is multiplied by T².

    Returns:
        Scalar, fp32: mean over the four sides, weighted mean over the anchors.

    Raises:
        ValueError: T is not positive, or the shapes differ.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if student_bins.shape != teacher_bins.shape:
        raise ValueError(f"student {tuple(student_bins.shape)} and teacher {tuple(teacher_bins.shape)} bins differ")
    if student_bins.numel() == 0:
        return student_bins.float().sum()
    student = (student_bins.float() / temperature).log_softmax(dim=-1)
    teacher = (teacher_bins.float().detach() / temperature).log_softmax(dim=-1)
    divergence = (teacher.exp() * (teacher - student)).sum(dim=-1).mean(dim=-1)
    return temperature**2 * _weighted_mean(divergence, weight)


def decoded_term(student_sides: Tensor, teacher_sides: Tensor, weight: Tensor) -> Tensor:
    """1 − IoU plus normalised L1 of boxes that share their anchor point.

    Args:
        student_sides: distances left, top, right, bottom from the anchor point, in strides, shape (anchors, 4).
        teacher_sides: same shape and unit; no gradient flows into it.
        weight: shape (anchors,), the teacher's top score of each anchor.

    Returns:
        Scalar, fp32: weighted mean over the anchors.
    """
    if student_sides.numel() == 0:
        return student_sides.float().sum()
    student, teacher = student_sides.float(), teacher_sides.float().detach()
    overlap = _area(torch.minimum(student, teacher))
    iou = overlap / (_area(student) + _area(teacher) - overlap).clamp(min=1e-6)
    size = (teacher[:, :2] + teacher[:, 2:]).mean(dim=1).abs().clamp(min=1e-3)
    distance = (student - teacher).abs().mean(dim=1) / size
    return _weighted_mean(1 - iou + distance, weight)


def _area(sides: Tensor) -> Tensor:
    width, height = sides[:, 0] + sides[:, 2], sides[:, 1] + sides[:, 3]
    return width.clamp(min=0) * height.clamp(min=0)


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    weight = weight.float().detach()
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
