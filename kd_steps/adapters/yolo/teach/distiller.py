"""The teacher's side of a training: where answers come from, what the terms weigh, what trains beside the student."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.models import neck_channels
from kd_steps.adapters.yolo.teach.teacher import AnswerContent, distillable_outputs
from kd_steps.adapters.yolo.train import distributed
from kd_steps.adapters.yolo.views import StoredTargets
from kd_steps.core.detect.teacher_targets import TargetBatch
from kd_steps.core.distill.calibration import TermCalibration
from kd_steps.core.distill.neck_adapters import NeckAdapters
from kd_steps.core.distill.objective import distillation_terms
from kd_steps.core.distill.schedule import EpochWeights
from kd_steps.core.distill.terms import TermWeights


@dataclass(frozen=True)
class Distillation:
    """A teacher for a training.

    Attributes:
        terms: multipliers of the terms.
        weights_at: the schedule: epoch → weights.
        cached: the teacher's stored answers, or None.
        live: answers a batch of images on the spot, or None.
        average: what is asked of the student's own moving average, or None. One of the three is given.
        teacher_channels: of the teacher's neck, by level; needed by the feature and the channel term.
        calibrate_batches: first batches whose gradients calibrate the terms; 0: the multipliers are taken as they are.
        calibrate_share: gradient norm of each calibrated term at the neck, by name, as a share of the label loss's.
    """

    terms: TermWeights
    weights_at: Callable[[int], EpochWeights]
    cached: StoredTargets | None = None
    live: Callable[[Tensor], TargetBatch] | None = None
    average: AnswerContent | None = None
    teacher_channels: tuple[int, ...] = ()
    calibrate_batches: int = 0
    calibrate_share: Mapping[str, float] = field(default_factory=dict)


class Distiller(nn.Module):
    """What a distillation trains and measures beside the student: adapters and the calibration of the terms.

    Args:
        distillation: the teacher.
        student: the detector in training.
    """

    def __init__(self, distillation: Distillation, student: DetectionModel) -> None:
        super().__init__()
        terms = distillation.terms
        needs_adapters = terms.feature_weight > 0 or terms.channel_weight > 0
        self.adapters = NeckAdapters(neck_channels(student), distillation.teacher_channels) if needs_adapters else None
        names, batches = terms.names(), distillation.calibrate_batches
        shares = [distillation.calibrate_share[name] for name in names] if batches else []
        self.calibration = TermCalibration(names, batches, shares)
        self.distillation: Distillation | None = None
        self.weights: EpochWeights | None = None

    def start_epoch(self, distillation: Distillation, epoch: int) -> None:
        """Take up the schedule's weights of an epoch."""
        self.distillation, self.weights = distillation, distillation.weights_at(epoch)

    def losses(
        self, outputs: dict[str, Any], batch: dict[str, Any], label_loss: Tensor, neck: Sequence[Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole loss of a batch, and the teacher's terms by name.

        Args:
            outputs: of the student, fp32.
            batch: Ultralytics' batch, with the teacher's answers under ``teacher`` where they are cached.
            label_loss: scalar; a sum over the pictures, as Ultralytics has it.
            neck: the neck's outputs in the network's own precision, which ``outputs`` were computed from.
        """
        assert self.distillation is not None, "start_epoch comes first"
        assert self.weights is not None
        settings, weights = self.distillation, self.weights
        teacher = batch["teacher"] if settings.live is None else settings.live(batch["img"])
        # Terms cast what they take of the neck, so that no gradient of a whole fp32 map is needed.
        student = replace(distillable_outputs(outputs), features=neck)
        terms = distillation_terms(student, teacher, settings.terms, weights.temperature, self.adapters)
        pictures = len(batch["img"])  # the terms are means over the pictures, the label loss is a sum
        if self.calibration.measuring and any(level.requires_grad for level in neck):  # a frozen neck feels nothing
            self.calibration.measure(label_loss / pictures, terms, neck)
            distributed.average(self.calibration.buffers())
        factors = self.calibration.multipliers()
        terms = {name: factors[name] * term for name, term in terms.items()}
        soft = sum(terms.values(), start=label_loss.new_zeros(()))
        return weights.hard * label_loss + weights.soft * soft * pictures, terms
