"""Attention terms: where the neck looks, and which of its channels speak.

Spatial: attention transfer (Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv 1612.03928):
the mean of the squared channels of a level, L2-normalised, one map a level. Channel: the pooled channels of
squeeze-and-excitation (Hu et al., CVPR 2018, arXiv 1709.01507), compared by direction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from kd_steps.core.detect.neck import spatial_attention


def spatial_attention_term(student_features: Sequence[Tensor], teacher_maps: Tensor) -> Tensor:
    """Squared distance of L2-normalised attention maps.

    Args:
        student_features: one map a level, shape (batch, channels, height, width).
        teacher_maps: the teacher's maps, levels end to end, any positive scale a level, shape (batch, cells).

    Returns:
        Scalar, fp32: sum over the levels of the mean over the views; 0 to 2 a level.

    Raises:
        ValueError: the levels do not have as many cells as the maps.
    """
    cells = [level.shape[2] * level.shape[3] for level in student_features]
    if sum(cells) != teacher_maps.shape[1]:
        raise ValueError(f"the student's levels have {cells} cells, the teacher's maps {teacher_maps.shape[1]}")
    total = torch.zeros((), device=teacher_maps.device)
    for features, teacher in zip(
        student_features, torch.split(teacher_maps.detach().float(), cells, dim=1), strict=True
    ):
        student = functional.normalize(spatial_attention(features), dim=1)
        total = total + (student - functional.normalize(teacher, dim=1)).square().sum(dim=1).mean()
    return total


def channel_attention_term(student_pooled: Tensor, teacher_pooled: Tensor) -> Tensor:
    """One minus the cosine of pooled channels.

    Args:
        student_pooled: the student's, adapted to the teacher's channels, shape (batch, channels).
        teacher_pooled: same shape; no gradient flows into it.

    Returns:
        Scalar, fp32: mean over the views, 0 to 2.
    """
    cosine = functional.cosine_similarity(student_pooled.float(), teacher_pooled.detach().float(), dim=1)
    return (1 - cosine).mean()
