"""The teacher's side of a training: where answers come from, what the terms weigh, what trains beside the student."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from kd_steps.adapters.yolo.models import neck_channels
from kd_steps.adapters.yolo.precision import Precision
from kd_steps.adapters.yolo.teach.mean_teacher import MeanTeacher
from kd_steps.adapters.yolo.teach.teacher import distillable_outputs
from kd_steps.adapters.yolo.train import distributed
from kd_steps.adapters.yolo.train.soft_loss import SoftLossModule
from kd_steps.adapters.yolo.views import StoredTargets
from kd_steps.core.detect.teacher_targets import TargetBatch
from kd_steps.core.distill.calibration import TermCalibration
from kd_steps.core.distill.lr_guard import LearningRateGuard
from kd_steps.core.distill.neck_adapters import NeckAdapters
from kd_steps.core.distill.objective import distillation_terms
from kd_steps.core.distill.schedule import EpochWeights
from kd_steps.core.distill.terms import TermWeights
from kd_steps.params.cache_logits import AnswerContent


@dataclass(frozen=True)
class Distillation:
    """A teacher for a training: its soft loss.

    Attributes:
        terms: multipliers of the terms.
        weights_at: the schedule: epoch → weights.
        cached: the teacher's stored answers, or None.
        live: answers a batch of images on the spot, or None.
        average: what is asked of the student's own moving average, or None. One of the three is given.
        teacher_channels: of the teacher's neck, by level; needed by the feature and the channel term.
        calibrate_batches: first batches whose gradients calibrate the terms; 0: the multipliers are taken as they are.
        calibrate_share: gradient norm of each calibrated term at the neck, by name, as a share of the label loss's.
        guard: cuts the learning rate where the teacher's terms outweigh the labels, or None.
    """

    terms: TermWeights
    weights_at: Callable[[int], EpochWeights]
    cached: StoredTargets | None = None
    live: Callable[[Tensor], TargetBatch] | None = None
    average: AnswerContent | None = None
    teacher_channels: tuple[int, ...] = ()
    calibrate_batches: int = 0
    calibrate_share: Mapping[str, float] = field(default_factory=dict)
    guard: LearningRateGuard | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the terms that have a weight."""
        return self.terms.names()

    @property
    def needs_neck_gradient(self) -> bool:
        """Whether the terms are calibrated."""
        return self.calibrate_batches > 0

    def beside(self, student: DetectionModel) -> Distiller:
        """What is trained and measured beside a student."""
        return Distiller(self, student)

    def losses_at(self, epoch: int) -> float:
        """How many label losses the weighted sum of an epoch is as much as."""
        return self.weights_at(epoch).losses

    def next_lr_scale(self, epoch: int, scale: float, label_loss: float, terms: Mapping[str, float]) -> float:
        """What multiplies the planned learning rate from the next epoch on: less, where the guard says so.

        The terms are taken as logged, with their own multipliers and without the schedule's weights: these say how much
        each side is meant to count, and a guard that counted them would fire wherever the schedule leans to the
        teacher.
        """
        if self.guard is None:
            return scale
        soft = sum(terms.values())
        found = self.guard.next_scale(scale, soft, label_loss)
        if found < scale:
            LOGGER.warning(
                f"epoch {epoch + 1}: the teacher's terms ({soft:.3g}) exceed {self.guard.ratio:g} times the label loss "
                f"({label_loss:.3g}); from the next epoch on, the learning rate is {found:g} of the schedule's"
            )
        return found


class Distiller(SoftLossModule):
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
        self.distillation = lambda: distillation  # a function is not copied: the model's average needs no teacher
        self.live: Callable[[Tensor], TargetBatch] | None = None
        self.weights: EpochWeights | None = None

    def start_epoch(self, epoch: int, average: DetectionModel, precision: Precision) -> None:
        """Take up the schedule's weights of an epoch; where the student's average teaches, this is it."""
        settings = self.distillation()
        self.weights, self.live = settings.weights_at(epoch), settings.live
        if settings.average is not None:
            self.live = MeanTeacher(average, precision, settings.average).answer

    def forward(
        self, outputs: dict[str, Any], raw: dict[str, Any], batch: dict[str, Any], label_loss: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole loss of a batch, and the teacher's terms by name: see :class:`SoftLossModule`."""
        weights = self.weights
        assert weights is not None, "start_epoch comes first"
        teacher = batch["teacher"] if self.live is None else self.live(batch["img"])
        # Terms cast what they take of the neck, so that no gradient of a whole fp32 map is needed.
        neck = distillable_outputs(raw).features
        student = replace(distillable_outputs(outputs), features=neck)
        terms = distillation_terms(student, teacher, self.distillation().terms, weights.temperature, self.adapters)
        pictures = len(batch["img"])  # the terms are means over the pictures, the label loss is a sum
        if self.calibration.measuring and any(level.requires_grad for level in neck):  # a frozen neck feels nothing
            self.calibration.measure(label_loss / pictures, terms, neck)
            distributed.average(self.calibration.buffers())
        factors = self.calibration.multipliers()
        terms = {name: factors[name] * term for name, term in terms.items()}
        soft = sum(terms.values(), start=label_loss.new_zeros(()))
        return weights.hard * label_loss + weights.soft * soft * pictures, terms
