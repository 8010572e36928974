"""Several frozen teachers that answer as one, so that the cache and all that follows stay as they are.

Neck vectors and pooled channels are those of the first teacher: each network has a basis of its own, and the mean of
two means nothing. Where each looks can be compared, so that attention maps are averaged. One-to-one branches give no
answer: each teacher picks an anchor of its own for an object, and the mean would teach the student two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.models import head_geometry
from kd_steps.adapters.yolo.teach.teacher import FrozenTeacher, targets_of
from kd_steps.core.detect.ensemble import EnsembleMember, class_shares, in_order, merge_heads
from kd_steps.core.detect.neck import neck_answers
from kd_steps.core.detect.outputs import BranchOutputs, DetectorOutputs
from kd_steps.core.detect.teacher_targets import TargetBatch, TeacherTargets, batch_targets


class EnsembleError(ValueError):
    """Teachers cannot answer as one; the message names the teacher and what differs."""


class TeacherEnsemble:
    """Several teachers, each with a weight; the first one's classes are those of the answer.

    Args:
        teachers: the first one's content is asked.
        members: what each knows, and how much it weighs, in the order of the teachers.

    Raises:
        EnsembleError: the heads differ, or nobody answers for a class.
    """

    def __init__(self, teachers: Sequence[FrozenTeacher], members: Sequence[EnsembleMember]) -> None:
        self.teachers, self.members = list(teachers), list(members)
        self.classes, self.content = members[0].class_names, teachers[0].content
        try:
            self.shares = class_shares(members, self.classes)
        except ValueError as error:
            raise EnsembleError(f"cache_logits.more_teachers: {error}") from error
        self.device, self.forwards = teachers[0].device, 0

    def targets(self, views: Tensor, pixel_hashes: Sequence[int]) -> list[TeacherTargets]:
        """Answer a batch of views: see :meth:`FrozenTeacher.targets`."""
        return self._answer(views.to(self.device).float() / 255, pixel_hashes)

    def answer(self, images: Tensor) -> TargetBatch:
        """Answer a batch as the student sees it: see :meth:`FrozenTeacher.answer`."""
        return batch_targets(self._answer(images, [0] * len(images))).to(images.device)

    @torch.no_grad()
    def _answer(self, images: Tensor, pixel_hashes: Sequence[int]) -> list[TeacherTargets]:
        self.device = images.device
        self.forwards += len(images) * len(self.teachers)
        outputs = [teacher.outputs(images) for teacher in self.teachers]
        merged = DetectorOutputs(self._merged([o.one_to_many for o in outputs]), None, outputs[0].features)
        targets = targets_of(merged, pixel_hashes, self.content)
        return self._with_mean_attention(targets, outputs) if self.content.attention else targets

    def _merged(self, heads: Sequence[BranchOutputs]) -> BranchOutputs:
        ordered = [
            BranchOutputs(in_order(head.class_logits.float(), member.class_names, self.classes), head.boxes)
            for head, member in zip(heads, self.members, strict=True)
        ]
        return merge_heads(ordered, self.shares)

    def _with_mean_attention(
        self, targets: Sequence[TeacherTargets], outputs: Sequence[DetectorOutputs]
    ) -> list[TeacherTargets]:
        weights = np.array([member.weight for member in self.members], dtype=np.float32)
        answers = [own.one_to_many for own in targets]
        necks = [neck_answers(teacher.features, answers, True, False, 0) for teacher in outputs]
        maps = np.stack([[neck.attention for neck in own] for own in necks])  # (teachers, batch, cells)
        means = np.tensordot(weights / weights.sum(), maps, axes=1)
        return [replace(own, neck=replace(own.neck, attention=mean)) for own, mean in zip(targets, means, strict=True)]


def require_same_heads(first: DetectionModel, other: DetectionModel, name: str) -> None:
    """Refuse a further teacher whose outputs cannot be merged with the first one's.

    Raises:
        EnsembleError: strides or bins differ.
    """
    mine, theirs = head_geometry(first), head_geometry(other)
    if (mine.strides_px, mine.bins) != (theirs.strides_px, theirs.bins):
        raise EnsembleError(
            f"cache_logits.more_teachers: {name} has a head with strides {theirs.strides_px} px and {theirs.bins} "
            f"bins, the teacher one with {mine.strides_px} px and {mine.bins}; only equal heads can be merged"
        )
