"""Checkpoints that a kill cannot tear, and a resumed training that goes on as if nothing had happened.

Ultralytics' ``last.pt`` holds the averaged weights and the optimizer in half precision, and nothing of the weights in
training: good to export, but a training that goes on from it is another one. What is missing is kept beside it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.utils.torch_utils import unwrap_model

from kd_steps.adapters.files import atomic_path

LIVE = "state.pt"


def last_checkpoint(folder: Path) -> Path:
    """The checkpoint of a run's last finished epoch: a plain one of Ultralytics."""
    return folder / "resume" / "last.pt"


def can_resume(folder: Path) -> bool:
    """Whether a training can go on exactly: a kill in its first epoch may have come between the two files."""
    return last_checkpoint(folder).exists() and (folder / "resume" / LIVE).exists()


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint of a run's best validated epoch."""
    return folder / "resume" / "best.pt"


def keep_checkpoint(written: Path, folder: Path) -> None:
    """Copy a checkpoint that Ultralytics has just written to where a kill cannot tear it."""
    with atomic_path(folder / "resume" / written.name) as temporary:
        shutil.copyfile(written, temporary)


def keep_live(folder: Path, trainer: Any) -> None:
    """Keep what ``last.pt`` rounds or lacks; written after it, so that it is never ahead of it.

    Args:
        folder: of the run.
        trainer: our trainer, at the end of an epoch.
    """
    best, stopper = trainer.best_fitness, trainer.stopper
    state = {
        "epoch": trainer.epoch,
        "model": unwrap_model(trainer.model).state_dict(),
        "average": trainer.ema.ema.state_dict(),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "best_fitness": None if best is None else float(best),
        "stopper": {"best_fitness": float(stopper.best_fitness), "best_epoch": stopper.best_epoch},
        "lr_scale": trainer.lr_scale,
        "seconds": time.time() - trainer.train_time_start,
    }
    with atomic_path(folder / "resume" / LIVE) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)  # given a path, torch tells a full disk by an error of its own


def read_live(folder: Path) -> dict[str, Any]:
    """What :func:`keep_live` kept; ask :func:`can_resume` first."""
    state: dict[str, Any] = torch.load(folder / "resume" / LIVE, weights_only=True, map_location="cpu")
    return state


def complete(checkpoint: dict[str, Any], average: nn.Module, live: Mapping[str, Any]) -> dict[str, Any]:
    """Ultralytics' checkpoint with everything that it rounds or that is of a later epoch put in its place.

    Args:
        checkpoint: of ``last.pt``; a kill may have come before the live state of its epoch was kept. The epoch of the
            live state counts.
        average: the checkpoint's averaged model.
        live: from :func:`read_live`.
    """
    average = average.float()
    average.load_state_dict(live["average"])
    kept = ("epoch", "updates", "optimizer", "scaler", "best_fitness", "stopper")
    return {**checkpoint, "ema": average, **{name: live[name] for name in kept}}
