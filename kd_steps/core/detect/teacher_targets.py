"""A teacher's targets of a view, as arrays for the cache and, for a batch of views, as tensors for the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kd_steps.core.detect.answers import Answer, AnswerBatch, batch_answers
from kd_steps.core.detect.neck import NeckAnswer, NeckBatch, batch_necks


@dataclass(frozen=True)
class TeacherTargets:
    """What a student is to match of one view: all that the teacher says of it.

    Attributes:
        pixel_hash: 64-bit hash of the view's exact uint8 pixels.
        one_to_many: what the head says; of a head with two branches, the one-to-many branch.
        one_to_one: what the one-to-one branch says; None for heads without one.
        neck: what the neck shows.
        cells: anchors a level of the head.
    """

    pixel_hash: int
    one_to_many: Answer
    one_to_one: Answer | None
    neck: NeckAnswer
    cells: tuple[int, ...]


@dataclass(frozen=True)
class TargetBatch:
    """The teacher's targets of a batch of views: see :class:`TeacherTargets`."""

    one_to_many: AnswerBatch
    one_to_one: AnswerBatch | None
    neck: NeckBatch

    def to(self, device: torch.device) -> TargetBatch:
        """The same answers on another device."""
        final = None if self.one_to_one is None else self.one_to_one.to(device)
        return TargetBatch(self.one_to_many.to(device), final, self.neck.to(device))


def batch_targets(targets: Sequence[TeacherTargets]) -> TargetBatch:
    """Lay targets end to end, in the order of the batch."""
    ones = [own.one_to_one for own in targets if own.one_to_one is not None]
    return TargetBatch(
        one_to_many=batch_answers([own.one_to_many for own in targets]),
        one_to_one=batch_answers(ones) if ones else None,
        neck=batch_necks([own.neck for own in targets], [own.one_to_many for own in targets], targets[0].cells),
    )
