"""Self-distillation: the student's own moving average answers (Tarvainen & Valpola, NIPS 2017, arXiv 1703.01780)."""

from __future__ import annotations

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.precision import Precision
from kd_steps.adapters.yolo.teach.teacher import distillable_outputs, targets_of
from kd_steps.core.detect.teacher_targets import TargetBatch, batch_targets
from kd_steps.params.cache_logits import AnswerContent


class MeanTeacher:
    """Answers with the averaged weights of a training; they are the trainer's, so that each answer is the newest.

    Args:
        average: the averaged model, in evaluation mode; nothing of it is changed.
        precision: of its forward pass.
        content: what it is asked.
    """

    def __init__(self, average: DetectionModel, precision: Precision, content: AnswerContent) -> None:
        self.average, self.precision, self.content = average, precision, content

    @torch.no_grad()
    def answer(self, images: Tensor) -> TargetBatch:
        """Answer a batch as the student sees it: float of shape (batch, 3, height, width), RGB, 0-1."""
        with self.precision.autocast(images.device):
            _, raw = self.average(self.precision.lay_out(images))
        return batch_targets(targets_of(distillable_outputs(raw), [0] * len(images), self.content)).to(images.device)
