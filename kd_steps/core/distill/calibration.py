"""Calibration of the terms by gradient: each pulls at the neck with a set share of the label loss's force.

The weight of a term says little by itself: a squared distance of normalised maps and a divergence of logits differ by
orders of magnitude, and by data set. What the student feels is the gradient at its neck. A calibrated term's weight
cancels out, so that its share is what is left to turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

SCALE = 2.0**10  # keeps small gradients of a half-precision network above zero; a power of two, so exact in fp32


class TermCalibration(nn.Module):
    """Mean gradient norms of the first batches, kept as buffers so that a resumed training goes on with them.

    Args:
        names: of the terms.
        batches: how many batches are measured; 0 leaves every multiplier at 1.
        shares: wanted gradient norm of each term, in the order of the names, as a share of the label loss's.
    """

    seen: Tensor
    label_norm: Tensor
    term_norms: Tensor

    def __init__(self, names: Sequence[str], batches: int, shares: Sequence[float]) -> None:
        super().__init__()
        self.names, self.batches, self.shares = tuple(names), batches, tuple(shares)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("label_norm", torch.zeros(()))
        self.register_buffer("term_norms", torch.zeros(len(self.names)))

    @property
    def measuring(self) -> bool:
        """Whether the next batch is still to be measured."""
        return bool(self.seen < self.batches)

    def measure(self, label_loss: Tensor, terms: Mapping[str, Tensor], features: Sequence[Tensor]) -> None:
        """Add one batch to the means.

        Args:
            label_loss: scalar.
            terms: scalars by name.
            features: the neck's outputs that both depend on, as the network gave them: in half precision, a copy of
                them in fp32 is off the path to the head.
        """
        norms = [gradient_norm(terms[name], features) for name in self.names]
        self.seen += 1
        self.label_norm += (gradient_norm(label_loss, features) - self.label_norm) / self.seen
        self.term_norms += (torch.stack(norms) - self.term_norms) / self.seen

    def multipliers(self) -> dict[str, float]:
        """What each term is to be multiplied by; 1 where nothing was measured or a term has no gradient."""
        if not self.seen or not self.label_norm:
            return dict.fromkeys(self.names, 1.0)
        wanted = self.label_norm.new_tensor(self.shares) * self.label_norm
        factors = torch.where(self.term_norms > 0, wanted / self.term_norms.clamp(min=1e-12), torch.ones(()).to(wanted))
        return dict(zip(self.names, factors.tolist(), strict=True))


def gradient_norm(loss: Tensor, features: Sequence[Tensor]) -> Tensor:
    """L2 norm of the gradient of a loss over all features together, fp32; the graph stays."""
    if not loss.requires_grad:
        return torch.zeros((), device=loss.device)
    gradients = torch.autograd.grad(loss * SCALE, list(features), retain_graph=True, allow_unused=True)
    squares = [(gradient.float() / SCALE).square().sum() for gradient in gradients if gradient is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros((), device=loss.device)
