"""Training a detector: begun, gone on with after a kill, or only its weights handed over."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ultralytics.nn.tasks import DetectionModel, load_checkpoint

from kd_steps.adapters.yolo.train import distributed, resuming
from kd_steps.adapters.yolo.train.trainer import RetortTrainer
from kd_steps.adapters.yolo.train.training_run import TrainingRun


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


def _finished(checkpoint: Path, epochs: int) -> bool:
    """Whether a kill came only after the last epoch; Ultralytics refuses to go on with such a checkpoint."""
    _, stored = load_checkpoint(checkpoint)
    return bool(stored["epoch"] + 1 >= epochs)


def results_of(folder: Path) -> Path:
    """The table that Ultralytics writes a row an epoch to."""
    return folder / "run" / "results.csv"
