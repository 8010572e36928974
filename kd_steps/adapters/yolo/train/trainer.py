"""Ultralytics' trainer, with our views, precision, soft loss and kill-safe checkpoints."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from ultralytics.data.build import build_dataloader
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel, load_checkpoint
from ultralytics.utils import RANK, WORLD_SIZE
from ultralytics.utils.torch_utils import unwrap_model

from kd_steps.adapters.yolo.guards import require_finite_gradient, require_finite_loss
from kd_steps.adapters.yolo.models import head_geometry, switch_off_integrations
from kd_steps.adapters.yolo.runtime import keep_freed_memory
from kd_steps.adapters.yolo.train import distributed, resuming
from kd_steps.adapters.yolo.train.freezing import HeadOnly
from kd_steps.adapters.yolo.train.loading import training_loader
from kd_steps.adapters.yolo.train.soft_loss import LABEL_LOSS
from kd_steps.adapters.yolo.train.training_model import TrainingModel
from kd_steps.adapters.yolo.train.training_run import TrainingRun
from kd_steps.adapters.yolo.views import LabelledDataset
from kd_steps.running import progress

MOST_LEFT_OUT = 20  # in a row: from 2^16, where it starts, the loss is then scaled by less than 1


class RetortTrainer(DetectionTrainer):
    """Ultralytics' detection trainer over a :class:`TrainingRun`.

    Args:
        run: what to train, on what, and where to.
    """

    device: torch.device
    world_size: int
    lf: Callable[[float], float]

    def __init__(self, run: TrainingRun) -> None:
        self.spec = run
        switch_off_integrations()
        overrides = _overrides(run)
        amp = overrides["amp"]
        super().__init__(overrides=overrides)
        self.args.workers = run.loader_workers  # Ultralytics forces 0 on a CPU
        self.args.amp = amp  # a resume takes it from the checkpoint
        if self.device.type == "cpu":
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # Ultralytics has just set all cores but one
            keep_freed_memory()
        self.world_size = WORLD_SIZE if RANK != -1 else self.world_size  # it knows several processes on GPUs only
        self.lr_scale = 1.0
        self.pictures: Sequence[str] = ()  # of the batch at work
        self.steps_left_out = 0  # in a row, by the scaler
        self.seconds_before = 0.0  # of the segments before a resume
        self.add_callback("on_train_start", _go_on)
        self.add_callback("on_train_epoch_start", _start_soft_loss)
        self.add_callback("on_train_epoch_end", _close_epoch)
        self.add_callback("on_fit_epoch_end", _tell_progress)
        self.add_callback("on_model_save", _keep_checkpoints)

    def get_dataset(self) -> dict[str, Any]:
        names = dict(enumerate(self.spec.classes))
        return {"train": "train", "val": "val", "nc": len(names), "names": names, "channels": 3}

    def setup_model(self) -> dict[str, Any] | None:
        checkpoint = None
        # Stored weights come frozen; Ultralytics thaws what is to be trained, but with a warning for each tensor.
        model = copy.deepcopy(self.spec.model).float().requires_grad_()
        if self.resume:
            weights, checkpoint = load_checkpoint(self.args.resume)
            live = resuming.read_live(self.spec.folder)
        model.__class__ = TrainingModel
        model.criterion = None
        model.precision = self.spec.precision
        model.soft_loss = self.spec.soft_loss.beside(model) if self.spec.soft_loss else None
        if checkpoint:
            model.load_state_dict(live["model"])
            checkpoint, self.lr_scale = resuming.complete(checkpoint, weights, live), live["lr_scale"]
            self.seconds_before = live.get("seconds", 0.0)  # none in those of before
        self.model = self.spec.precision.lay_out(model)
        return checkpoint

    def _setup_ddp(self) -> None:
        if self.device.type == "cuda":
            self.device = distributed.own_gpu(self.args.device)
        distributed.join(self.device)

    def _setup_train(self) -> None:
        if self.device.type == "cpu":
            self.world_size = 0  # or Ultralytics would wrap the model as one on a GPU
        amp, self.args.amp = self.args.amp, False  # or Ultralytics fetches a network of its own to try AMP with
        super()._setup_train()
        self.args.amp = amp
        self._make_average_plain()
        rules = self.spec.mechanics
        self.ema.decay = lambda update: rules.ema_decay * (1 - math.exp(-update / rules.ema_ramp_updates))
        self.head_only = HeadOnly(self.detector(), rules.head_only_epochs)
        unwrap_model(self.model).register_forward_hook(lambda _, given, found: self._check_loss(given[0], *found))

    def detector(self) -> DetectionModel:
        """The detector in training, out of whatever wraps it."""
        model: DetectionModel = unwrap_model(self.model)
        return model

    def _build_train_pipeline(self) -> None:
        """Before the checkpoint's state is loaded, the scaler's with it."""
        name = self.spec.precision.name
        self.amp = self.device.type == "cuda" and name != "fp32"
        self.scaler = torch.amp.GradScaler("cuda", enabled=name == "amp")
        if self.device.type == "cpu" and RANK != -1:
            self.world_size, self.model = WORLD_SIZE, distributed.wrap_on_cpu(self.model)
        super()._build_train_pipeline()
        self.train_loader.sampler.start_at(self.start_epoch)  # Ultralytics builds anew where memory ran out

    def _setup_scheduler(self) -> None:
        super()._setup_scheduler()
        planned = self.lf
        self.lf = lambda epoch: planned(epoch) * self.lr_scale
        self.scheduler.lr_lambdas = [self.lf] * len(self.optimizer.param_groups)

    def _model_train(self) -> None:
        super()._model_train()
        self.head_only.start_epoch(self.epoch)

    def _check_loss(self, batch: dict[str, Any], total: Tensor, parts: dict[str, Tensor]) -> None:
        self.pictures = batch["im_file"]
        require_finite_loss(total, parts, self.pictures, self.epoch, resuming.last_checkpoint(self.spec.folder))

    def optimizer_step(self) -> None:
        """Ultralytics' step with our clipping; adapters beside the student count, too."""
        self.scaler.unscale_(self.optimizer)
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(weights, self._clip_norm() or math.inf)
        # The scaler leaves such a step out and scales down: no fault of the data, unless it goes on.
        self.steps_left_out = self.steps_left_out + 1 if self.scaler.is_enabled() and not norm.isfinite() else 0
        if not self.scaler.is_enabled() or self.steps_left_out > MOST_LEFT_OUT:
            last = resuming.last_checkpoint(self.spec.folder)
            require_finite_gradient(norm, self.pictures, self.epoch, last)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)

    def _clip_norm(self) -> float:
        """The limit of one loss, for each: else the soft loss would shorten the steps of the labels."""
        soft = self.spec.soft_loss
        return self.spec.mechanics.clip_norm * (soft.losses_at(self.epoch) if soft else 1.0)

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        model = unwrap_model(self.model)
        soft_loss, model.soft_loss = model.soft_loss, None  # the checkpoint's average has none
        super()._load_checkpoint_state(ckpt)
        model.soft_loss = soft_loss
        self._make_average_plain()

    def _make_average_plain(self) -> None:
        """What is validated and saved needs nothing of ours."""
        if isinstance(self.ema.ema, TrainingModel):
            del self.ema.ema.precision, self.ema.ema.soft_loss
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
        return training_loader(self.spec, max(RANK, 0), max(self.world_size, 1), batch_size, options)

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
        terms = self.spec.soft_loss.names if self.spec.soft_loss else ()
        unmeasured = {f"val/{name}" for name in (LABEL_LOSS, *terms)}  # no teacher answers; Ultralytics would write 0
        kept = [name for name in labelled if name not in unmeasured]
        return kept if loss_items is None else {name: labelled[name] for name in kept}

    def final_eval(self) -> None:
        """Nothing: every engine is judged through the edge runtime, by `evaluate`."""


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
        "nms": False if head_geometry(run.model).end2end else None,  # of two branches, validation judges what ships
        "plots": False,
        "patience": 0,
        "exist_ok": True,
        "deterministic": True,
    }
    if resuming.can_resume(run.folder):
        overrides["resume"] = str(resuming.last_checkpoint(run.folder))
    return overrides


def _go_on(trainer: RetortTrainer) -> None:
    """Order, views and clock go on where the segment before a resume ended."""
    trainer.train_loader.sampler.start_at(trainer.start_epoch)
    trainer.train_time_start -= trainer.seconds_before
    progress.tell(trainer.start_epoch, trainer.epochs, "epochs")


def _tell_progress(trainer: RetortTrainer) -> None:
    if RANK in (-1, 0):
        progress.tell(trainer.epoch + 1, trainer.epochs, "epochs")


def _start_soft_loss(trainer: RetortTrainer) -> None:
    soft_loss = unwrap_model(trainer.model).soft_loss
    if soft_loss is not None:
        soft_loss.start_epoch(trainer.epoch, trainer.ema.ema, trainer.spec.precision)


def _close_epoch(trainer: RetortTrainer) -> None:
    """Agree over the processes on what the epoch was like, and let the soft loss set the learning rate."""
    distributed.average(trainer.tloss.values())
    for model in (unwrap_model(trainer.model), trainer.ema.ema):
        distributed.average(model.buffers())  # each process has seen other pictures; its statistics are of these alone
    soft = trainer.spec.soft_loss
    if soft is not None:
        terms = {name: float(trainer.tloss[name]) for name in soft.names}
        label_loss = float(trainer.tloss[LABEL_LOSS])
        trainer.lr_scale = soft.next_lr_scale(trainer.epoch, trainer.lr_scale, label_loss, terms)


def _keep_checkpoints(trainer: RetortTrainer) -> None:
    """Keep what Ultralytics has just written, and what a resume needs besides."""
    folder = trainer.spec.folder
    if trainer.best_fitness == trainer.fitness:
        resuming.keep_checkpoint(trainer.best, folder)
    resuming.keep_checkpoint(trainer.last, folder)
    resuming.keep_live(folder, trainer)
