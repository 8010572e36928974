"""A frozen teacher that answers views."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.guards import require_finite_answer
from kd_steps.adapters.yolo.precision import Precision
from kd_steps.core.detect.answers import Answer, sparse_answers
from kd_steps.core.detect.neck import neck_answers
from kd_steps.core.detect.outputs import BranchOutputs, DetectorOutputs
from kd_steps.core.detect.teacher_targets import TargetBatch, TeacherTargets, batch_targets
from kd_steps.params.cache_logits import AnswerContent


class Teacher(Protocol):
    """Whoever answers views: one detector, or several as one."""

    device: torch.device
    forwards: int

    def targets(self, views: Tensor, pixel_hashes: Sequence[int]) -> list[TeacherTargets]: ...

    def answer(self, images: Tensor) -> TargetBatch: ...


class FrozenTeacher:
    """A detector that only answers: evaluation mode, batch norms fused, no gradients.

    Args:
        model: the detector; a copy is taken, so that nobody's ``train()`` can reach it.
        device: where it runs.
        precision: of its forward pass.
        content: what it is asked.
    """

    def __init__(
        self, model: DetectionModel, device: torch.device, precision: Precision, content: AnswerContent
    ) -> None:
        self.model = precision.lay_out(_fused(model).to(device).requires_grad_(False))
        self.device, self.precision, self.content = device, precision, content
        self.forwards = 0

    def targets(self, views: Tensor, pixel_hashes: Sequence[int]) -> list[TeacherTargets]:
        """Answer a batch of views.

        Args:
            views: uint8 of shape (batch, 3, height, width), RGB.
            pixel_hashes: of each view's pixels.
        """
        return self._answer(views.to(self.device).float() / 255, pixel_hashes)

    def answer(self, images: Tensor) -> TargetBatch:
        """Answer a batch as the student sees it: float of shape (batch, 3, height, width), RGB, 0-1."""
        return batch_targets(self._answer(images, [0] * len(images))).to(images.device)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> DetectorOutputs:
        """What its network says of a batch, before it is cut down to an answer.

        The teacher moves to where the images are: of several processes, each has a GPU of its own.
        """
        if images.device != self.device:
            self.model, self.device = self.model.to(images.device), images.device
        self.forwards += len(images)
        with self.precision.autocast(self.device):
            _, raw = self.model(self.precision.lay_out(images))
        return distillable_outputs(raw)

    def _answer(self, images: Tensor, pixel_hashes: Sequence[int]) -> list[TeacherTargets]:
        return targets_of(self.outputs(images), pixel_hashes, self.content)


def targets_of(outputs: DetectorOutputs, pixel_hashes: Sequence[int], asked: AnswerContent) -> list[TeacherTargets]:
    """Cut the dense outputs of a batch down to answers.

    Args:
        outputs: of a teacher.
        pixel_hashes: of each view's pixels.
        asked: what to keep.

    Raises:
        NotFiniteError: a number of an answer is NaN or infinite.
    """
    require_finite_answer(outputs)
    limits = asked.score_threshold, asked.max_anchors
    one_to_many = sparse_answers(outputs.one_to_many.class_logits, outputs.one_to_many.boxes, *limits)
    one_to_one: list[Answer] | list[None] = [None] * len(one_to_many)
    if outputs.one_to_one is not None:
        one_to_one = sparse_answers(outputs.one_to_one.class_logits, outputs.one_to_one.boxes, *limits)
    necks = neck_answers(outputs.features, one_to_many, asked.attention, asked.pooled, asked.max_vectors)
    cells = tuple(level.shape[2] * level.shape[3] for level in outputs.features)
    return [
        TeacherTargets(pixel_hash, answer, final, neck, cells)
        for pixel_hash, answer, final, neck in zip(pixel_hashes, one_to_many, one_to_one, necks, strict=True)
    ]


def _fused(model: DetectionModel) -> DetectionModel:
    """A copy in evaluation mode with fused batch norms, both branches of its head kept."""
    frozen = copy.deepcopy(model).float().eval()
    head = frozen.model[-1]
    head.fuse = lambda: None  # Ultralytics' own drops the branch that is not used for detecting
    frozen.fuse(verbose=False)
    del head.fuse
    return frozen


def distillable_outputs(outputs: dict[str, Any]) -> DetectorOutputs:
    """The raw outputs that distillation compares, of a head with one branch or with two (YOLOv10, YOLO26).

    The one-to-one branch is trained on detached features, so only the one-to-many branch carries a gradient to the
    neck.
    """
    many, one = outputs.get("one2many", outputs), outputs.get("one2one")
    return DetectorOutputs(
        one_to_many=BranchOutputs(many["scores"], many["boxes"]),
        one_to_one=one and BranchOutputs(one["scores"], one["boxes"]),
        features=many["feats"],
    )
