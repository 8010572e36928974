"""The three-phase schedule: how much the teacher's answers and the labels weigh in each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True)
class Phase:
    """One phase: its share of the epochs, the weights of soft and hard loss, and the class temperature."""

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012 - how params.yaml is held to it

    fraction: Annotated[float, Ge(0), Le(1)]
    soft_weight: Annotated[float, Ge(0)]
    hard_weight: Annotated[float, Ge(0)]
    temperature: Annotated[float, Gt(0)]


@dataclass(frozen=True)
class EpochWeights:
    """What one epoch uses.

    Attributes:
        phase: name of the phase.
        soft: factor of the teacher's terms.
        hard: factor of the label loss.
        temperature: of the class term.
    """

    phase: str
    soft: float
    hard: float
    temperature: float

    @property
    def losses(self) -> float:
        """How many label losses the weighted sum is as much as: 1 without a teacher, 2 with even weights."""
        return self.soft + self.hard


def weights_at(epoch: int, epochs: int, phases: Mapping[str, Phase], gamma_epochs: float) -> EpochWeights:
    """Weights of an epoch.

    Both weights are doubled, so that 0.5 / 0.5 is the plain sum of the two losses and the learning rate of a training
    without a teacher stays right. While γ ramps the soft part up, the weight that it does not take yet stays with the
    labels; else the first epochs would learn from a fraction of a loss.

    Args:
        epoch: from 0.
        epochs: epochs of the training.
        phases: by name, in order; their fractions add up to 1.
        gamma_epochs: γ = min(1, (epoch + 1) / gamma_epochs) multiplies the soft part; 0 switches the ramp off.

    Raises:
        ValueError: the fractions do not add up to 1, or the epoch is outside the training.
    """
    require_whole(phases)
    if not 0 <= epoch < epochs:
        raise ValueError(f"epoch {epoch} is outside 0..{epochs - 1}")
    name = _phase_at(epoch, epochs, phases)
    phase = phases[name]
    gamma = min(1.0, (epoch + 1) / gamma_epochs) if gamma_epochs > 0 else 1.0
    soft = 2 * phase.soft_weight * gamma
    return EpochWeights(name, soft, 2 * phase.hard_weight + 2 * phase.soft_weight * (1 - gamma), phase.temperature)


def require_whole(phases: Mapping[str, Phase]) -> None:
    """Refuse phases that leave epochs over or ask for too many.

    Raises:
        ValueError: the fractions do not add up to 1.
    """
    total = sum(phase.fraction for phase in phases.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the fractions of {', '.join(phases)} must add up to 1, they add up to {total:g}")


def _phase_at(epoch: int, epochs: int, phases: Mapping[str, Phase]) -> str:
    """The phase whose share of the training holds the epoch's middle."""
    middle, end = (epoch + 0.5) / epochs, 0.0
    for name, phase in phases.items():
        end += phase.fraction
        if middle < end:
            return name
    return list(phases)[-1]
