"""The learning-rate guard: a teacher that shouts the labels down is answered with smaller steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Names in what a training with a teacher logs. Ultralytics logs its own parts of the label loss, but of a head with two
# branches only those of the one-to-one branch, so they do not add up to what was trained on.
TEACHER_PREFIX, LABEL_LOSS = "kd_", "label_loss"


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


def soft_and_task(parts: Mapping[str, float]) -> tuple[float, float]:
    """The sum of the teacher's terms, and the label loss, from the loss parts that a training logs by name.

    They are taken as logged, with the terms' own multipliers and without the schedule's weights: these say how much
    each side is meant to count, and a guard that counted them would fire wherever the schedule leans to the teacher.
    """
    return sum(value for name, value in parts.items() if name.startswith(TEACHER_PREFIX)), parts[LABEL_LOSS]
