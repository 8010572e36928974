"""Ultralytics by itself: its own distillation in our trainer, and its own trainer as a user would run it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from distill_setting import RECIPE, SCALE, STUDENT_MODEL, classes
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.models import switch_off_integrations
from kd_steps.adapters.yolo.precision import Precision, choose_precision
from kd_steps.adapters.yolo.train.trainer import RetortTrainer
from kd_steps.adapters.yolo.train.training_model import TrainingModel
from kd_steps.core.data.yolo_labels import Labels, format_yolo
from kd_steps.params import Params


class NativeModel(DistillationModel):
    """Ultralytics' teacher and student under our precision; it would run them in fp32 on a CPU."""

    our_precision: Precision

    def loss(self, batch: dict[str, Any], preds: Any = None) -> Any:
        """Ultralytics' loss, its forward passes in our number format."""
        with self.our_precision.autocast(batch["img"].device):
            return super().loss({**batch, "img": self.our_precision.lay_out(batch["img"])}, preds)


class NativeTrainer(RetortTrainer):
    """Our trainer around Ultralytics' distillation: same pictures, order, views and precision. It is not resumed."""

    def _setup_train(self) -> None:
        super()._setup_train()
        for model in (self.model, self.ema.ema):
            model.__class__ = NativeModel
            model.our_precision = self.spec.precision
        self.model.teacher_model = self.spec.precision.lay_out(self.model.teacher_model)

    def detector(self) -> DetectionModel:
        """The student inside Ultralytics' pair of models."""
        student: DetectionModel = super().detector().student_model
        return student

    def save_model(self) -> bool:
        """Nothing: the benchmark reads only the scores."""
        return False


class PreciseTrainer(DetectionTrainer):
    """Ultralytics' own trainer, order and views, in our number format and on all cores."""

    def setup_model(self) -> Any:
        checkpoint = super().setup_model()
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.model.__class__, self.model.soft_loss = TrainingModel, None
        self.model.precision = choose_precision("auto", self.device)
        self.model = self.model.precision.lay_out(self.model)
        return checkpoint


def default_trainer(
    params: Params,
    train: Sequence[Any],
    val: Sequence[Any],
    folder: Path,
    kind: type[DetectionTrainer] = DetectionTrainer,
    **changes: Any,
) -> DetectionTrainer:
    """Ultralytics' own trainer, pictures in memory, with its defaults on this machine but for ``changes``."""
    switch_off_integrations()  # ours does so itself; a fresh Ultralytics would start tracking runs
    epochs = params.distill.epochs
    options = {
        "model": STUDENT_MODEL,
        "data": str(_yolo_layout({"train": train, "val": val}, folder / "set")),
        "imgsz": SCALE.imgsz_px,
        "batch": RECIPE["batch"],
        "optimizer": RECIPE["optimizer"],
        "epochs": epochs,
        "close_mosaic": round(epochs * params.distill.training.close_mosaic_fraction),
        "seed": params.seed,
        "cache": "ram",
        "device": "0" if torch.cuda.is_available() else "cpu",
        "plots": False,
        "val": False,  # only after the last epoch, as in ours
        "exist_ok": True,
        "save_dir": str(folder / "run"),
    }
    return kind(overrides=options | changes)


def _yolo_layout(splits: Mapping[str, Sequence[Any]], folder: Path) -> Path:
    for split, pictures in splits.items():
        images, labels = folder / "images" / split, folder / "labels" / split
        for wanted in (images, labels):
            wanted.mkdir(parents=True)
        for picture in pictures:
            (images / picture.path.name).symlink_to(picture.path)
            text = format_yolo(Labels(picture.class_ids, picture.boxes_xywh))
            (labels / f"{picture.path.stem}.txt").write_text(text, encoding="utf-8")
    data = folder / "data.yaml"
    described = {"path": str(folder), "train": "images/train", "val": "images/val", "names": dict(enumerate(classes()))}
    data.write_text(json.dumps(described))
    return data
