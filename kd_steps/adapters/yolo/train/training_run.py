"""What a training is told: model, pictures, views, options, and how it steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.precision import Precision
from kd_steps.adapters.yolo.train.soft_loss import SoftLoss
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.views import ViewPlan


@dataclass(frozen=True)
class Mechanics:
    """The knobs of the training loop that Ultralytics has as constants or not at all; the defaults are its own.

    Attributes:
        clip_norm: largest L2 norm of all gradients of a step, for each loss: with a soft loss, it is multiplied by as
            many label losses as both are together; 0: they are not clipped.
        ema_decay: of the averaged weights, once the ramp is over.
        ema_ramp_updates: time constant of the ramp, optimizer updates: the decay at update n is
            ``ema_decay`` · (1 − exp(−n / ema_ramp_updates)).
        head_only_epochs: first epochs that train the head alone.
    """

    clip_norm: float = 10.0
    ema_decay: float = 0.9999
    ema_ramp_updates: float = 2000.0
    head_only_epochs: int = 0


@dataclass(frozen=True)
class NewPartDraws:
    """How few-shot batches are mixed: the last ``count`` training pictures are new parts."""

    count: int
    share: float
    per_epoch: int


@dataclass(frozen=True)
class TrainingRun:
    """All that a training needs.

    Attributes:
        model: the detector to train; a copy is trained.
        classes: class names.
        train: training pictures.
        val: validation pictures.
        plan: which view an epoch shows.
        seed: of views, order and Ultralytics.
        gains: Ultralytics' augmentation gains.
        augmentation_digest: of the gains.
        imgsz_px: side of the network input.
        options: Ultralytics' training arguments that are not ours to decide (epochs, batch, lr0, …).
        val_interval_epochs: epochs between validations; the last epoch always has one.
        device: Ultralytics' device string.
        precision: number formats.
        loader_workers: loader processes.
        cache_images: whether decoded pictures stay in memory.
        folder: where the run keeps its checkpoints until it is finished.
        soft_loss: what is trained on beside the labels, if anything is.
        new_parts: how few-shot batches are mixed, if they are.
        keep: which weights the training gives: those with the best validation mAP, or the last.
        mechanics: how the training steps.
        processes: how many share each batch; 1 trains in this process.
    """

    model: DetectionModel
    classes: Sequence[str]
    train: Sequence[LabelledImage]
    val: Sequence[LabelledImage]
    plan: ViewPlan
    seed: int
    gains: Mapping[str, float]
    augmentation_digest: str
    imgsz_px: int
    options: Mapping[str, Any]
    val_interval_epochs: int
    device: str
    precision: Precision
    loader_workers: int
    cache_images: bool
    folder: Path
    soft_loss: SoftLoss | None = None
    new_parts: NewPartDraws | None = None
    keep: Literal["best", "last"] = "best"
    mechanics: Mechanics = field(default_factory=Mechanics)
    processes: int = 1
