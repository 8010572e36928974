"""A detector in training: our precision around the forward pass, and the soft loss beside the label loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.precision import Precision
from kd_steps.adapters.yolo.train.soft_loss import LABEL_LOSS, SoftLossModule


class TrainingModel(DetectionModel):
    """A detector in training: our precision around the forward pass, fp32 losses, and the soft loss.

    Only the live model has this class; the averaged copy that is saved is a plain ``DetectionModel``.
    """

    precision: Precision
    soft_loss: SoftLossModule | None

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Label loss and, in training with a soft loss, its mean over the pictures and each term, by name."""
        if getattr(self, "criterion", None) is None:
            self.criterion = self.init_criterion()
        device = batch["img"].device
        if preds is None:
            with self.precision.autocast(device):
                preds = self.forward(self.precision.lay_out(batch["img"]))
        with torch.autocast(device.type, enabled=False):
            outputs = _as_fp32(preds)
            if self.soft_loss is None or not self.training:
                loss: tuple[Tensor, dict[str, Tensor]] = self.criterion(outputs, batch)
                return loss
            hard, items = self._label_loss(outputs, batch)
            total, terms = self.soft_loss(outputs, preds, batch, hard.sum())
        whole = {LABEL_LOSS: hard.sum() / len(batch["img"]), **terms}
        return total, {**items, **{name: part.detach() for name, part in whole.items()}}

    def _label_loss(self, outputs: dict[str, Any], batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The label loss of the labelled pictures; a labelled picture weighs the same whatever stands beside it."""
        labelled = batch.get("labelled")
        if labelled is None or bool(labelled.all()):
            return self.criterion(outputs, batch)
        rows = labelled.nonzero().flatten()
        known = len(rows) > 0
        rows = rows if known else torch.zeros(1, dtype=torch.int64, device=labelled.device)  # a loss of no weight
        of_known = torch.isin(batch["batch_idx"], rows.to(batch["batch_idx"])) & known
        places = torch.searchsorted(rows, batch["batch_idx"][of_known].long())
        part = {
            "img": batch["img"][rows],
            "batch_idx": places.to(batch["batch_idx"]),
            "cls": batch["cls"][of_known],
            "bboxes": batch["bboxes"][of_known],
        }
        loss, items = self.criterion(_rows_of(outputs, rows), part)
        return loss * known, {name: item * known for name, item in items.items()}


def _as_fp32(value: Any) -> Any:
    """Head outputs in fp32, whatever they are nested in."""
    return _each_tensor(value, Tensor.float)


def _rows_of(value: Any, rows: Tensor) -> Any:
    """Some pictures of head outputs, whatever they are nested in."""
    return _each_tensor(value, lambda tensor: tensor[rows])


def _each_tensor(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_tensor(item, change) for key, item in value.items()}
    return type(value)(_each_tensor(item, change) for item in value) if isinstance(value, list | tuple) else value
