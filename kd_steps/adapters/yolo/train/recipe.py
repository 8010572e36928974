"""From a section of ``params.yaml`` to a training: model, views, options, and what is measured afterwards."""

from __future__ import annotations

import csv
import math
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.downloads import attempt_download_asset

from kd_steps.adapters.yolo.models import (
    ModelScale,
    WeightsError,
    build_model,
    for_classes,
    load_weights,
    pick_classes,
    save_weights,
)
from kd_steps.adapters.yolo.precision import Precision, choose_device, choose_precision
from kd_steps.adapters.yolo.teach.distiller import Distillation
from kd_steps.adapters.yolo.train.distributed import process_count
from kd_steps.adapters.yolo.train.freezing import frozen_layers, require_gradient_at_the_neck
from kd_steps.adapters.yolo.train.training import results_of
from kd_steps.adapters.yolo.train.training_run import Mechanics, NewPartDraws, TrainingRun
from kd_steps.core.data.class_names import class_difference
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.views import ViewPlan, plan_views
from kd_steps.core.distill.lr_guard import LearningRateGuard
from kd_steps.params import Params
from kd_steps.params.distill import Distill
from kd_steps.params.training import ScaledModel, Training

FITNESS = "metrics/mAP50-95(B)"  # what Ultralytics chooses its best epoch by
FREE_MEMORY_SHARE = 0.25  # of free memory that decoded pictures may take before they are read from disk instead


@dataclass(frozen=True)
class Hardware:
    """Where and how a training computes."""

    device: str
    torch_device: torch.device
    precision: Precision


def hardware(params: Params) -> Hardware:
    """The device and the number formats that ``compute`` asks for."""
    device = choose_device(params.compute.device)
    torch_device = torch.device("cpu" if device == "cpu" else f"cuda:{device.split(',')[0]}")
    return Hardware(device, torch_device, choose_precision(params.compute.precision, torch_device))


def initial_model(section: Training, weights: Path | None, classes: Sequence[str], seed: int) -> DetectionModel:
    """The detector a training starts from: pinned weights, or an architecture with fresh ones.

    Args:
        section: of the training; its ``model`` may itself be a ``.pt`` file.
        weights: a weight file that goes before ``section.model``, or None.
        classes: class names; of weights for other classes, the rows of the class layers go with their names.
        seed: of fresh weights.

    Raises:
        WeightsError: the weight file cannot be used.
    """
    if weights is None and isinstance(section.model, str) and section.model.endswith(".pt"):
        weights = Path(section.model)
    if weights is None:
        return build_model(_architecture(section.model), classes, seed)
    loaded = load_weights(_fetch(weights), section.weights_sha256)
    if list(loaded.names.values()) == list(classes):
        return loaded.float()
    difference = class_difference(list(loaded.names.values()), classes)
    LOGGER.warning(f"{weights}: {difference}; classes go by their names, and those it does not know start afresh")
    return for_classes(loaded, classes, seed)


def given_model(section: Training, weights: Path, classes: Sequence[str]) -> DetectionModel:
    """A trained detector as it is, its outputs picked by class name.

    Raises:
        WeightsError: the weight file cannot be used, or it does not know every class.
    """
    loaded = load_weights(_fetch(weights), section.weights_sha256).float()
    if list(loaded.names.values()) == list(classes):
        return loaded
    try:
        return pick_classes(loaded, classes)
    except WeightsError as error:
        raise WeightsError(
            f"{weights}: {error}; train it further (train_teacher.epochs above 0), or name another"
        ) from error


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
    distillation: Distillation | None = None,
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
    if distillation is not None and distillation.calibrate_batches:
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
        distillation=distillation,
        new_parts=new_parts,
        keep=keep,
        mechanics=_mechanics(section, distillation),
        processes=processes,
    )


def finish(run: TrainingRun, model: nn.Module, weights: Path) -> dict[str, Any]:
    """Write the weights and the results table; what a resume needs stays, until the caller has done its part.

    Returns:
        What the training measured: epochs, seconds, pictures a second, the validation scores of the weights that are
        kept, peak memory.
    """
    save_weights(model, weights)
    rows = _last_row_of_each_epoch(results_of(run.folder))
    with (run.folder / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    seconds, kept = float(rows[-1]["time"]), _kept_row(rows, run.keep)
    trained_by = resource.RUSAGE_CHILDREN if run.processes > 1 else resource.RUSAGE_SELF  # the largest of the processes
    pictures = len(rows) * (run.new_parts.per_epoch if run.new_parts else len(run.train))
    return {
        "epochs": len(rows),
        "seconds": round(seconds, 1),
        "pictures_per_second": round(pictures / seconds, 2) if seconds else None,
        "val_map50": float(kept["metrics/mAP50(B)"]),
        "val_map50_95": float(kept[FITNESS]),
        "peak_memory_bytes": resource.getrusage(trained_by).ru_maxrss * 1024,
        "device": run.device,
        "precision": run.precision.name,
    }


def model_name(section: Training, weights: Path | str | None = None) -> str:
    """How a person would name the model."""
    if weights is not None:
        return str(weights)
    model = section.model
    if isinstance(model, ScaledModel):
        return f"{Path(model.architecture).stem} (depth {model.depth_multiple}, width {model.width_multiple})"
    return Path(model).stem


def _architecture(model: str | ScaledModel) -> str | ModelScale:
    return model if isinstance(model, str) else ModelScale(**model.model_dump())


def _fetch(weights: Path) -> Path:
    """A weight file by path, or one of Ultralytics' own by its bare name, fetched where the network allows."""
    if weights.exists() or weights.parent != Path():
        return weights
    try:
        return Path(attempt_download_asset(weights.name))
    except Exception as error:
        raise WeightsError(f"{weights}: no such file here, and Ultralytics could not fetch it ({error})") from error


def _mechanics(section: Training, distillation: Distillation | None) -> Mechanics:
    guard = None
    if isinstance(section, Distill) and section.lr_guard_ratio and distillation:  # it compares the teacher's terms
        guard = LearningRateGuard(section.lr_guard_ratio, section.lr_guard_factor, section.lr_guard_floor)
    return Mechanics(
        clip_norm=section.training.clip_norm,
        ema_decay=section.training.ema_decay,
        ema_ramp_updates=section.training.ema_ramp_updates,
        head_only_epochs=section.training.head_only_epochs,
        guard=guard,
    )


def _options(section: Training, frozen: int) -> dict[str, Any]:
    names = ("batch", "optimizer", "lr0", "lrf", "momentum", "weight_decay", "warmup_epochs")
    return {
        "epochs": section.epochs,
        **{name: getattr(section.training, name) for name in names},
        "nbs": section.training.nominal_batch,
        "freeze": frozen or None,
    }


def keep_in_memory(params: Params, images: int) -> bool:
    """Whether so many decoded pictures are kept in memory."""
    if params.compute.cache_images != "auto":
        return params.compute.cache_images == "ram"
    return fits_in_memory(images, params.preprocessing.imgsz_px, psutil.virtual_memory().available)


def fits_in_memory(images: int, imgsz_px: int, free_bytes: int) -> bool:
    """Whether so many decoded pictures take less than the share of free memory that is left to them."""
    return images * 3 * imgsz_px**2 < FREE_MEMORY_SHARE * free_bytes


def _last_row_of_each_epoch(table: Path) -> list[dict[str, str]]:
    """Ultralytics' rows; an epoch that a kill made it write twice counts once."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = {row["epoch"].strip(): row for row in csv.DictReader(stream, skipinitialspace=True)}
    return [rows[epoch] for epoch in sorted(rows, key=int)]


def _kept_row(rows: Sequence[dict[str, str]], keep: Literal["best", "last"]) -> dict[str, str]:
    """The row of the epoch whose weights are kept; of equals the last one, as the best checkpoint is replaced."""
    if keep == "last":
        return rows[-1]
    validated = [row for row in rows if not math.isnan(float(row[FITNESS]))]
    return max(reversed(validated), key=lambda row: float(row[FITNESS]))
