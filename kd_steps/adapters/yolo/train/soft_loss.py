"""What a training knows of a loss beside the labels': a teacher's, whose answers, terms and schedule are its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.precision import Precision
from kd_steps.adapters.yolo.views import StoredTargets

LABEL_LOSS = "label_loss"  # what it is logged as where there is a soft loss, too


class SoftLossModule(nn.Module, ABC):
    """What a soft loss trains and measures beside one detector; a part of it, so that it is optimised and resumed."""

    @abstractmethod
    def start_epoch(self, epoch: int, average: DetectionModel, precision: Precision) -> None:
        """Take up what the schedule says of an epoch.

        Args:
            epoch: from 0.
            average: the training's averaged model, in evaluation mode; it changes with every step.
            precision: of forward passes.
        """

    @abstractmethod
    def forward(
        self, outputs: dict[str, Any], raw: dict[str, Any], batch: dict[str, Any], label_loss: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole loss of a batch, and the terms by name.

        Args:
            outputs: of the detector, fp32.
            raw: the same in the network's own precision, which ``outputs`` were cast from.
            batch: Ultralytics' batch, with stored targets under ``teacher`` where there are any.
            label_loss: scalar; a sum over the pictures, as Ultralytics has it.
        """


class SoftLoss(Protocol):
    """A loss beside the labels'; it is pickled to the processes of a training."""

    @property
    def names(self) -> Sequence[str]:
        """What its terms are logged as."""

    @property
    def cached(self) -> StoredTargets | None:
        """Targets that come with the views, or None."""

    @property
    def needs_neck_gradient(self) -> bool:
        """Whether terms are weighed by their gradient at the neck."""

    def beside(self, student: DetectionModel) -> SoftLossModule:
        """A fresh module for a detector that is to be trained."""

    def losses_at(self, epoch: int) -> float:
        """How many label losses the weighted sum of an epoch is as much as."""

    def next_lr_scale(self, epoch: int, scale: float, label_loss: float, terms: Mapping[str, float]) -> float:
        """What multiplies the planned learning rate from the next epoch on.

        Args:
            epoch: that has just ended, from 0.
            scale: what multiplied it in this epoch.
            label_loss: mean over the epoch.
            terms: means over the epoch, by name.
        """
