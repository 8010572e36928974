"""Training a detector: begun, gone on with after a kill, finished, or only measured."""

from __future__ import annotations

import csv
import math
import resource
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn
from ultralytics.nn.tasks import DetectionModel, load_checkpoint

from kd_steps.adapters.yolo.models import save_weights
from kd_steps.adapters.yolo.train import distributed, resuming
from kd_steps.adapters.yolo.train.trainer import RetortTrainer
from kd_steps.adapters.yolo.train.training_run import TrainingRun
from kd_steps.artifacts import paths

FITNESS = "metrics/mAP50-95(B)"  # what Ultralytics chooses its best epoch by


def train(run: TrainingRun) -> DetectionModel:
    """Train, or go on with a training that was killed, and return the weights that ``run.keep`` asks for.

    Returns:
        A plain Ultralytics detector, fp32, on the CPU.
    """
    last, best = resuming.last_checkpoint(run.folder), resuming.best_checkpoint(run.folder)
    if not (last.exists() and _finished(last, run.options["epochs"])):
        work = partial(train_here, run)
        if run.processes > 1:
            if not resuming.can_resume(run.folder):
                results_of(run.folder).unlink(missing_ok=True)  # else every process of a fresh run would clear it away
            distributed.launch(work, run.processes)
        else:
            work()
    model, _ = load_checkpoint(best if run.keep == "best" and best.exists() else last)
    model = model.float().cpu()
    model.names = dict(enumerate(run.classes))
    return model


def train_here(run: TrainingRun) -> None:
    """Train in this process, which may be one of several."""
    RetortTrainer(run).train()


def results_of(folder: Path) -> Path:
    """The table that Ultralytics writes a row an epoch to."""
    return folder / "run" / paths.TRAINING_LOG


def finish(run: TrainingRun, model: nn.Module, weights: Path) -> dict[str, Any]:
    """Write the weights and the results table; what a resume needs stays, until the caller has done its part.

    Returns:
        What the training measured: epochs, seconds, pictures a second, the validation scores of the weights that are
        kept, peak memory.
    """
    save_weights(model, weights)
    rows = _last_row_of_each_epoch(results_of(run.folder))
    with (run.folder / paths.TRAINING_LOG).open("w", newline="", encoding="utf-8") as stream:
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


def validation_scores(run: TrainingRun) -> dict[str, Any]:
    """mAP of ``run.model`` on ``run.val``, with the keys that a training's measurements have.

    Args:
        run: a training of one epoch that is not started; its folder is used for scratch.
    """
    trainer = RetortTrainer(replace(run, device=run.device.split(",")[0], processes=1))
    trainer._setup_train()
    trainer.epoch = trainer.epochs - 1
    batch = trainer.preprocess_batch(next(iter(trainer.test_loader)))
    average: Any = trainer.ema.ema
    _, trainer.loss_items = average.loss(batch, average(batch["img"]))  # the validator wants the names of the parts
    metrics = trainer.validator(trainer)
    shutil.rmtree(run.folder / "run", ignore_errors=True)
    return {
        "epochs": 0,
        "seconds": 0.0,
        "val_map50": float(metrics["metrics/mAP50(B)"]),
        "val_map50_95": float(metrics[FITNESS]),
        "device": run.device,
        "precision": run.precision.name,
    }


def _finished(checkpoint: Path, epochs: int) -> bool:
    """Whether a kill came only after the last epoch; Ultralytics refuses to go on with such a checkpoint."""
    _, stored = load_checkpoint(checkpoint)
    return bool(stored["epoch"] + 1 >= epochs)


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
