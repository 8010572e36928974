"""A detector in training: our precision around the forward pass, and the teacher's terms beside the label loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.precision import Precision
from kd_steps.adapters.yolo.teacher import distillable_outputs
from kd_steps.adapters.yolo.views import Records
from kd_steps.core.distillation import TermWeights, distillation_terms
from kd_steps.core.schedule import EpochWeights
from kd_steps.core.teacher_records import TeacherBatch


@dataclass(frozen=True)
class Distillation:
    """A teacher for a training.

    Attributes:
        terms: multipliers of the terms.
        weights_at: the schedule: epoch → weights.
        cached: the teacher's stored answers, or None.
        live: answers a batch of images on the spot, or None. One of the two is given.
    """

    terms: TermWeights
    weights_at: Callable[[int], EpochWeights]
    cached: Records | None = None
    live: Callable[[Tensor], TeacherBatch] | None = None


class TrainingModel(DetectionModel):
    """A detector in training: our precision around the forward pass, fp32 losses, and the teacher's terms.

    Only the live model has this class; the averaged copy that is saved is a plain ``DetectionModel``.
    """

    precision: Precision
    distillation: Distillation | None
    epoch_weights: EpochWeights | None

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Label loss and, in training with a teacher, its terms under their own names."""
        if getattr(self, "criterion", None) is None:
            self.criterion = self.init_criterion()
        device = batch["img"].device
        if preds is None:
            with self.precision.autocast(device):
                preds = self.forward(self.precision.lay_out(batch["img"]))
        with torch.autocast(device.type, enabled=False):
            outputs = _as_fp32(preds)
            hard, items = self.criterion(outputs, batch)
            if self.distillation is None or self.epoch_weights is None or not self.training:
                return hard, items
            terms = self._teacher_terms(outputs, batch, self.distillation, self.epoch_weights)
            # Ultralytics' losses are multiplied by the batch size; the teacher's terms follow.
            soft = torch.stack(list(terms.values())).sum() * len(batch["img"])
            total = self.epoch_weights.hard * hard.sum() + self.epoch_weights.soft * soft
        return total, {**items, **{name: term.detach() for name, term in terms.items()}}

    def _teacher_terms(
        self, outputs: dict[str, Any], batch: dict[str, Any], distillation: Distillation, weights: EpochWeights
    ) -> dict[str, Tensor]:
        teacher = batch["teacher"] if distillation.live is None else distillation.live(batch["img"])
        heads = distillable_outputs(outputs)
        return distillation_terms(heads["scores"], heads["boxes"], teacher, distillation.terms, weights.temperature)


def _as_fp32(value: Any) -> Any:
    """Head outputs in fp32, whatever they are nested in."""
    if isinstance(value, Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: _as_fp32(item) for key, item in value.items()}
    return type(value)(_as_fp32(item) for item in value) if isinstance(value, list | tuple) else value
