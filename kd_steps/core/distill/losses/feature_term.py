"""Feature terms on the neck's vectors at the teacher's best anchors, student through an adapter.

L2: score-weighted, as Ultralytics' own distillation weighs its dense maps. CWD: channel-wise distillation (Shu et al.,
ICCV 2021, arXiv 2011.13256). PKD: Pearson correlation (Cao et al., NeurIPS 2022, arXiv 2207.02039). CWD and PKD
normalise each channel over the positions; the positions here are the vectors of the whole batch.
"""

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-6


def l2_term(student: Tensor, teacher: Tensor, score: Tensor) -> Tensor:
    """Mean squared error, weighted by the teacher's score.

    Args:
        student: adapted vectors, shape (m, channels).
        teacher: same shape; no gradient flows into it.
        score: the teacher's top class score at each vector, shape (m,).

    Returns:
        Scalar, fp32; zero where there is no vector.
    """
    error = (student.float() - teacher.detach().float()).square().mean(dim=1) if len(student) else student.sum(dim=1)
    weight = score.detach().float()
    return (error * weight).sum() / weight.sum().clamp(min=EPSILON)


def cwd_term(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of each channel's distribution over the positions, times T².

    Args:
        student: adapted vectors, shape (m, channels).
        teacher: same shape; no gradient flows into it.
        temperature: T > 0.

    Returns:
        Scalar, fp32: mean over the channels; zero where there is no vector.

    Raises:
        ValueError: T is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if not len(student):
        return student.float().sum()
    log_student = (student.float() / temperature).log_softmax(dim=0)
    log_teacher = (teacher.detach().float() / temperature).log_softmax(dim=0)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(dim=0).mean()


def pkd_term(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the Pearson correlation of each channel over the positions.

    Args:
        student: adapted vectors, shape (m, channels).
        teacher: same shape; no gradient flows into it.

    Returns:
        Scalar, fp32: mean over the channels, 0 to 2; zero for fewer than two vectors.
    """
    if len(student) < 2:
        return student.float().sum() * 0
    return 0.5 * (_standardised(student.float()) - _standardised(teacher.detach().float())).square().mean()


def _standardised(values: Tensor) -> Tensor:
    centred = values - values.mean(dim=0, keepdim=True)
    variance = centred.square().mean(dim=0, keepdim=True)
    return centred / variance.clamp(min=EPSILON**2).sqrt()  # a root of 0 would have the gradient NaN
