"""From a section of ``params.yaml`` to a training: views, options, and how it steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.hardware import hardware, keep_in_memory
from kd_steps.adapters.yolo.train.distributed import process_count
from kd_steps.adapters.yolo.train.freezing import frozen_layers, require_gradient_at_the_neck
from kd_steps.adapters.yolo.train.soft_loss import SoftLoss
from kd_steps.adapters.yolo.train.training_run import Mechanics, NewPartDraws, TrainingRun
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.views import ViewPlan, plan_views
from kd_steps.params import Params
from kd_steps.params.training import Training


def fresh_views_plan(section: Training) -> ViewPlan:
    """A new view every epoch: a training without a cache has no reason to see one twice."""
    return plan_views(section.epochs, section.training.close_mosaic_fraction, section.epochs, section.epochs)


def training_run(
    params: Params,
    section: Training,
    model: DetectionModel,
    classes: Sequence[str],
    train: Sequence[LabelledImage],
    val: Sequence[LabelledImage],
    plan: ViewPlan,
    augmentation_digest: str,
    folder: Path,
    soft_loss: SoftLoss | None = None,
    new_parts: NewPartDraws | None = None,
    keep: Literal["best", "last"] = "best",
) -> TrainingRun:
    """A training as its section of ``params.yaml`` describes it.

    Raises:
        FreezingError: the model has fewer layers or blocks than are to be frozen, or terms are to be calibrated at a
            frozen neck.
        ValueError: processes and GPUs, or processes and the batch, do not go together.
    """
    machine = hardware(params)
    processes = process_count(machine.device, params.compute.processes)
    if section.training.batch % processes:
        raise ValueError(f"batch: {section.training.batch} pictures cannot be shared evenly by {processes} processes")
    frozen = frozen_layers(model, section.training.freeze_layers, section.training.freeze_blocks)
    if soft_loss is not None and soft_loss.needs_neck_gradient:
        require_gradient_at_the_neck(model, frozen, section.training.head_only_epochs, section.epochs)
    return TrainingRun(
        model=model,
        classes=classes,
        train=train,
        val=val,
        plan=plan,
        seed=params.seed,
        gains=params.augmentation.model_dump(),
        augmentation_digest=augmentation_digest,
        imgsz_px=params.preprocessing.imgsz_px,
        options=_options(section, frozen),
        val_interval_epochs=section.training.val_interval_epochs,
        device=machine.device,
        precision=machine.precision,
        loader_workers=params.compute.loader_workers,
        cache_images=keep_in_memory(params, processes * (len(train) + len(val))),
        folder=folder,
        soft_loss=soft_loss,
        new_parts=new_parts,
        keep=keep,
        mechanics=_mechanics(section),
        processes=processes,
    )


def _mechanics(section: Training) -> Mechanics:
    return Mechanics(
        clip_norm=section.training.clip_norm,
        ema_decay=section.training.ema_decay,
        ema_ramp_updates=section.training.ema_ramp_updates,
        head_only_epochs=section.training.head_only_epochs,
    )


def _options(section: Training, frozen: int) -> dict[str, Any]:
    names = ("batch", "optimizer", "lr0", "lrf", "momentum", "weight_decay", "warmup_epochs")
    return {
        "epochs": section.epochs,
        **{name: getattr(section.training, name) for name in names},
        "nbs": section.training.nominal_batch,
        "freeze": frozen or None,
    }
