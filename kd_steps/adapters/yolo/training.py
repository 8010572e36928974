"""Ultralytics' trainer, with our views, precision, teacher terms and kill-safe checkpoints."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from ultralytics.data.build import InfiniteDataLoader, build_dataloader
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel, load_checkpoint
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from kd_steps.adapters.files import atomic_path
from kd_steps.adapters.yolo.distiller import Distillation, Distiller
from kd_steps.adapters.yolo.models import switch_off_integrations
from kd_steps.adapters.yolo.precision import Precision
from kd_steps.adapters.yolo.training_model import TrainingModel
from kd_steps.adapters.yolo.views import EpochSampler, LabelledDataset, ViewDataset
from kd_steps.core.labelled import LabelledImage
from kd_steps.core.views import ViewPlan

CHECKPOINTS = ("last.pt", "best.pt")


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
        distillation: the teacher, if there is one.
        new_parts: how few-shot batches are mixed, if they are.
        keep: which weights the training gives: those with the best validation mAP, or the last.
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
    distillation: Distillation | None = None
    new_parts: NewPartDraws | None = None
    keep: Literal["best", "last"] = "best"


class RetortTrainer(DetectionTrainer):
    """Ultralytics' detection trainer over a :class:`TrainingRun`.

    Args:
        run: what to train, on what, and where to.
    """

    def __init__(self, run: TrainingRun) -> None:
        self.spec = run
        switch_off_integrations()
        super().__init__(overrides=_overrides(run))
        self.args.workers = run.loader_workers  # Ultralytics forces 0 on a CPU
        if self.device.type == "cpu":
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # Ultralytics has just set all cores but one
        self.add_callback("on_train_start", lambda t: t.train_loader.sampler.start_at(t.start_epoch))
        self.add_callback("on_train_epoch_start", _set_epoch_weights)
        self.add_callback("on_model_save", _keep_checkpoints)

    def get_dataset(self) -> dict[str, Any]:
        names = dict(enumerate(self.spec.classes))
        return {"train": "train", "val": "val", "nc": len(names), "names": names, "channels": 3}

    def setup_model(self) -> dict[str, Any] | None:
        checkpoint = None
        model = copy.deepcopy(self.spec.model).float()
        if self.resume:
            weights, checkpoint = load_checkpoint(self.args.resume)
            model.load_state_dict(weights.float().state_dict())
        model.__class__ = TrainingModel
        model.criterion = None
        model.precision = self.spec.precision
        model.distiller = Distiller(self.spec.distillation, model) if self.spec.distillation else None
        self.model = self.spec.precision.lay_out(model)
        return checkpoint

    def _setup_train(self) -> None:
        super()._setup_train()
        self._make_average_plain()

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        model = unwrap_model(self.model)
        distiller, model.distiller = model.distiller, None  # the checkpoint's average has none
        super()._load_checkpoint_state(ckpt)
        model.distiller = distiller
        self._make_average_plain()

    def _make_average_plain(self) -> None:
        """What is validated and saved needs nothing of ours."""
        if isinstance(self.ema.ema, TrainingModel):
            del self.ema.ema.precision, self.ema.ema.distiller
            self.ema.ema.__class__ = DetectionModel

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        options = {
            "imgsz": self.args.imgsz,
            "hyp": self.args,
            "batch_size": batch_size,
            "stride": self.stride,
            "data": self.data,
            "cache": "ram" if self.spec.cache_images else None,
        }
        if mode == "val":
            val = LabelledDataset(self.spec.val, augment=False, prefix="val: ", **options)
            return build_dataloader(val, batch_size, workers=0, shuffle=False, rank=rank, device=self.device)
        return self._train_loader(batch_size, options)

    def _train_loader(self, batch_size: int, options: dict[str, Any]) -> InfiniteDataLoader:
        run, mix = self.spec, self.spec.new_parts
        cached = run.distillation.cached if run.distillation else None
        dataset = ViewDataset(
            run.train, run.plan, run.seed, run.augmentation_digest, cached, prefix="train: ", **options
        )
        new_count = mix.count if mix else 0
        sampler = EpochSampler(
            count=len(run.train) - new_count,
            seed=run.seed,
            rank=max(RANK, 0),
            world_size=max(self.world_size, 1),
            new_count=new_count,
            draws=mix.per_epoch if mix else 0,
            new_share=mix.share if mix else 0.0,
        )
        return InfiniteDataLoader(
            dataset,
            batch_size=min(batch_size, len(sampler)),
            sampler=sampler,
            num_workers=run.loader_workers,
            collate_fn=ViewDataset.collate_fn,
            pin_memory=self.device.type == "cuda",
        )

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        if "teacher" in batch:
            batch["teacher"] = batch["teacher"].to(self.device)
        return batch

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        last = self.epoch + 1 >= self.epochs
        if not last and (self.epoch + 1) % self.spec.val_interval_epochs:
            names = [*self.validator.metrics.keys, *self.label_loss_items(prefix="val")]
            return dict.fromkeys(names, float("nan")), None
        return super().validate()

    def label_loss_items(self, loss_items: dict[str, Any] | None = None, prefix: str = "train") -> Any:
        labelled = super().label_loss_items(loss_items, prefix)
        terms = self.spec.distillation.terms.names() if self.spec.distillation else ()
        unmeasured = {f"val/{name}" for name in terms}  # no teacher answers in validation; Ultralytics would write 0
        kept = [name for name in labelled if name not in unmeasured]
        return kept if loss_items is None else {name: labelled[name] for name in kept}

    def final_eval(self) -> None:
        """Nothing: every engine is judged through the edge runtime, by `evaluate`."""


def train(run: TrainingRun) -> DetectionModel:
    """Train, or go on with a training that was killed, and return the weights that ``run.keep`` asks for.

    Returns:
        A plain Ultralytics detector, fp32, on the CPU.
    """
    best, last = (run.folder / "resume" / name for name in ("best.pt", "last.pt"))
    if not (last.exists() and _finished(last, run.options["epochs"])):
        RetortTrainer(run).train()
    model, _ = load_checkpoint(best if run.keep == "best" and best.exists() else last)
    model = model.float().cpu()
    model.names = dict(enumerate(run.classes))
    return model


def _finished(checkpoint: Path, epochs: int) -> bool:
    """Whether a kill came only after the last epoch; Ultralytics refuses to go on with such a checkpoint."""
    _, stored = load_checkpoint(checkpoint)
    return bool(stored["epoch"] + 1 >= epochs)


def results_of(folder: Path) -> Path:
    """The table that Ultralytics writes a row an epoch to."""
    return folder / "run" / "results.csv"


def _overrides(run: TrainingRun) -> dict[str, Any]:
    """Ultralytics' arguments, and the checkpoint to go on from where there is one."""
    overrides = {
        **run.options,
        **run.gains,
        "mode": "train",
        "task": "detect",
        "model": "yolo11n.yaml",  # Ultralytics wants a name; setup_model gives the model itself
        "data": "prepared",
        "imgsz": run.imgsz_px,
        "seed": run.seed,
        "device": run.device,
        "amp": {"amp": True, "bf16": "bf16", "fp32": False}[run.precision.name] if run.device != "cpu" else False,
        "close_mosaic": 0,  # the view plan closes the mosaic
        "save_dir": str(run.folder / "run"),
        "plots": False,
        "patience": 0,
        "exist_ok": True,
        "deterministic": True,
    }
    kept = run.folder / "resume" / "last.pt"
    if kept.exists():
        weights = run.folder / "run" / "weights"
        weights.mkdir(parents=True, exist_ok=True)
        for name in CHECKPOINTS:  # the run's own files may be torn by the kill
            if (run.folder / "resume" / name).exists():
                shutil.copyfile(run.folder / "resume" / name, weights / name)
        overrides["resume"] = str(weights / "last.pt")
    return overrides


def _set_epoch_weights(trainer: RetortTrainer) -> None:
    if trainer.spec.distillation is not None:
        unwrap_model(trainer.model).distiller.start_epoch(trainer.spec.distillation, trainer.epoch)


def _keep_checkpoints(trainer: RetortTrainer) -> None:
    """Copy what Ultralytics has just written to where a kill cannot tear it."""
    names = CHECKPOINTS if trainer.best_fitness == trainer.fitness else CHECKPOINTS[:1]
    for name in names:
        with contextlib.suppress(FileNotFoundError), atomic_path(trainer.spec.folder / "resume" / name) as temporary:
            shutil.copyfile(trainer.wdir / name, temporary)
