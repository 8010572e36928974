"""The learning-rate guard: where the terms outweigh the label loss, steps get smaller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LearningRateGuard:
    """When and how far the learning rate is cut.

    Attributes:
        ratio: the teacher's terms may reach this multiple of the label loss.
        factor: multiplies the learning rate at each cut.
        floor: least share of the schedule's learning rate that is left.
    """

    ratio: float
    factor: float
    floor: float

    def next_scale(self, scale: float, soft: float, task: float) -> float:
        """What multiplies the schedule's learning rate from the next epoch on.

        Args:
            scale: what multiplied it in this epoch.
            soft: the teacher's terms, mean over the epoch.
            task: the label loss, mean over the epoch.
        """
        if soft <= self.ratio * task:
            return scale
        return min(scale, max(scale * self.factor, self.floor))
