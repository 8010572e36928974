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
from kd_steps.adapters.yolo.teach.teacher import FrozenTeacher, records_of
from kd_steps.core.detect.ensemble import Voter, class_votes, in_order, merge_heads
from kd_steps.core.detect.neck import neck_answers
from kd_steps.core.detect.outputs import BranchOutputs, DetectorOutputs
from kd_steps.core.detect.teacher_targets import TeacherBatch, TeacherRecord, batch_records


class EnsembleError(ValueError):
    """Teachers cannot answer as one; the message names the teacher and what differs."""


class TeacherEnsemble:
    """Several teachers with voices; the first one's classes are those of the answer.

    Args:
        teachers: the first one's content is asked.
        voters: what each knows, and how much its voice counts.

    Raises:
        EnsembleError: the heads differ, or the voices do not cover the classes.
    """

    def __init__(self, teachers: Sequence[FrozenTeacher], voters: Sequence[Voter]) -> None:
        self.teachers, self.voters = list(teachers), list(voters)
        self.classes, self.content = voters[0].knows, teachers[0].content
        try:
            self.votes = class_votes(voters, self.classes)
        except ValueError as error:
            raise EnsembleError(f"cache_logits.more_teachers: {error}") from error
        self.device, self.forwards = teachers[0].device, 0

    def records(self, views: Tensor, pixel_hashes: Sequence[int]) -> list[TeacherRecord]:
        """Answer a batch of views: see :meth:`FrozenTeacher.records`."""
        return self._answer(views.to(self.device).float() / 255, pixel_hashes)

    def answer(self, images: Tensor) -> TeacherBatch:
        """Answer a batch as the student sees it: see :meth:`FrozenTeacher.answer`."""
        return batch_records(self._answer(images, [0] * len(images))).to(images.device)

    @torch.no_grad()
    def _answer(self, images: Tensor, pixel_hashes: Sequence[int]) -> list[TeacherRecord]:
        self.device = images.device
        self.forwards += len(images) * len(self.teachers)
        outputs = [teacher.outputs(images) for teacher in self.teachers]
        merged = DetectorOutputs(self._merged([o.many for o in outputs]), None, outputs[0].features)
        records = records_of(merged, pixel_hashes, self.content)
        return self._with_mean_attention(records, outputs) if self.content.attention else records

    def _merged(self, heads: Sequence[BranchOutputs]) -> BranchOutputs:
        ordered = [
            BranchOutputs(in_order(head.class_logits.float(), voter.knows, self.classes), head.boxes)
            for head, voter in zip(heads, self.voters, strict=True)
        ]
        return merge_heads(ordered, self.votes)

    def _with_mean_attention(
        self, records: Sequence[TeacherRecord], outputs: Sequence[DetectorOutputs]
    ) -> list[TeacherRecord]:
        weights = np.array([voter.weight for voter in self.voters], dtype=np.float32)
        answers = [record.many for record in records]
        necks = [neck_answers(own.features, answers, True, False, 0) for own in outputs]
        maps = np.stack([[neck.attention for neck in own] for own in necks])  # (teachers, batch, cells)
        means = np.tensordot(weights / weights.sum(), maps, axes=1)
        return [
            replace(record, neck=replace(record.neck, attention=mean))
            for record, mean in zip(records, means, strict=True)
        ]


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
