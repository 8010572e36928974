"""The validation score of a detector that is not trained here, measured as a training measures it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

from kd_steps.adapters.yolo.train.recipe import FITNESS
from kd_steps.adapters.yolo.train.trainer import RetortTrainer
from kd_steps.adapters.yolo.train.training_run import TrainingRun


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
