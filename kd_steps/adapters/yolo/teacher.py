"""A frozen teacher that answers views."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.precision import Precision
from kd_steps.core.teacher_records import TeacherBatch, TeacherRecord, batch_records, sparse_records


class FrozenTeacher:
    """A detector that only answers: evaluation mode, batch norms fused, no gradients.

    Args:
        model: the detector; a copy is taken, so that nobody's ``train()`` can reach it.
        device: where it runs.
        precision: of its forward pass.
        score_threshold: least top class score of a kept anchor.
        max_anchors: most anchors kept a view.
    """

    def __init__(
        self,
        model: DetectionModel,
        device: torch.device,
        precision: Precision,
        score_threshold: float,
        max_anchors: int,
    ) -> None:
        frozen = copy.deepcopy(model).float().eval().fuse(verbose=False).to(device).requires_grad_(False)
        self.model = precision.lay_out(frozen)
        self.device, self.precision = device, precision
        self.score_threshold, self.max_anchors = score_threshold, max_anchors
        self.forwards = 0

    def records(self, views: Tensor, pixel_hashes: Sequence[int]) -> list[TeacherRecord]:
        """Answer a batch of views.

        Args:
            views: uint8 of shape (batch, 3, height, width), RGB.
            pixel_hashes: of each view's pixels.
        """
        return self._answer(views.to(self.device).float() / 255, pixel_hashes)

    def answer(self, images: Tensor) -> TeacherBatch:
        """Answer a batch as the student sees it: float of shape (batch, 3, height, width), RGB, 0-1."""
        return batch_records(self._answer(images, [0] * len(images))).to(images.device)

    @torch.no_grad()
    def _answer(self, images: Tensor, pixel_hashes: Sequence[int]) -> list[TeacherRecord]:
        self.forwards += len(images)
        with self.precision.autocast(self.device):
            _, raw = self.model(self.precision.lay_out(images))
        heads = distillable_outputs(raw)
        return sparse_records(heads["scores"], heads["boxes"], pixel_hashes, self.score_threshold, self.max_anchors)


def distillable_outputs(outputs: dict[str, Any]) -> dict[str, Tensor]:
    """The raw head outputs that distillation compares: ``scores`` (batch, classes, anchors) and ``boxes``.

    Heads with two branches (YOLOv10, YOLO26) train the one-to-one branch on detached features, so only the
    one-to-many branch carries a gradient to the neck.
    """
    return outputs["one2many"] if outputs.get("one2many") else outputs.get("one2one", outputs)
