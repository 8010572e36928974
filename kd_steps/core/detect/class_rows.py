"""New classes for a trained detector: more rows in the class layers, the old rows untouched."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def extend_class_rows(weight: Tensor, bias: Tensor, new_classes: int, prior: float) -> tuple[Tensor, Tensor]:
    """Add rows for new classes to the last convolution of a class branch.

    A new row starts at zero weights and the logit of a small prior: at first it detects nothing. The old classes' rows
    stay to the bit; their outputs to rounding, as a convolution of another width may sum in another order.

    Args:
        weight: shape (classes, channels, 1, 1).
        bias: shape (classes,).
        new_classes: rows to add.
        prior: score that a new class starts with, 0-1 exclusive.

    Returns:
        Weight of shape (classes + new_classes, channels, 1, 1) and bias of shape (classes + new_classes,).

    Raises:
        ValueError: nothing to add, or a prior outside (0, 1).
    """
    if new_classes < 1:
        raise ValueError(f"new_classes must be at least 1, got {new_classes}")
    if not 0 < prior < 1:
        raise ValueError(f"prior must lie between 0 and 1, got {prior}")
    rows = weight.new_zeros((new_classes, *weight.shape[1:]))
    logits = bias.new_full((new_classes,), math.log(prior / (1 - prior)))
    return torch.cat([weight, rows]), torch.cat([bias, logits])


def replay_draws(base: int, new: int, draws: int, new_share: float, generator: torch.Generator) -> Tensor:
    """Indices for one few-shot epoch: new pictures often, base pictures replayed.

    Args:
        base: number of base pictures; their indices come first.
        new: number of new-part pictures; their indices follow.
        draws: how many indices to draw.
        new_share: share of the draws that are new pictures, 0-1.
        generator: source of randomness.

    Returns:
        int64 of shape (draws,); each side is drawn without repetition until it is used up, then anew.
    """
    from_new = min(draws, max(1, round(draws * new_share)))
    picked_new = _cycle(new, from_new, generator) + base
    picked_base = _cycle(base, draws - from_new, generator)
    mixed = torch.cat([picked_new, picked_base])
    return mixed[torch.randperm(draws, generator=generator)]


def _cycle(count: int, draws: int, generator: torch.Generator) -> Tensor:
    rounds = [torch.randperm(count, generator=generator) for _ in range(math.ceil(draws / count))]
    return torch.cat(rounds)[:draws] if rounds else torch.empty(0, dtype=torch.int64)
