"""The relational term: which pictures of a batch the networks find alike.

Similarity-preserving distillation (Tung & Mori, ICCV 2019, arXiv 1907.09682) on pooled neck channels; student and
teacher may have different numbers of channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def relational_term(student_pooled: Tensor, teacher_pooled: Tensor) -> Tensor:
    """Mean squared difference of the pairwise cosine similarities inside a batch.

    Channels are centred over the batch first: pooled activations are positive, so all pictures would look alike.

    Args:
        student_pooled: shape (batch, student channels).
        teacher_pooled: shape (batch, teacher channels); no gradient flows into it.

    Returns:
        Scalar, fp32: mean over the pairs; zero for a batch of one, and of two,
        whose centred pictures are always opposite.
    """
    batch = len(student_pooled)
    if batch < 2:
        return student_pooled.float().sum() * 0
    difference = _similarities(student_pooled.float()) - _similarities(teacher_pooled.detach().float())
    pairs = ~torch.eye(batch, dtype=torch.bool, device=student_pooled.device)
    return difference[pairs].square().mean()


def _similarities(pooled: Tensor) -> Tensor:
    unit = functional.normalize(pooled - pooled.mean(dim=0, keepdim=True), dim=1)
    return unit @ unit.T
