"""A teacher's whole answer to a view, as arrays for the cache and, for a batch of views, as tensors for the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kd_steps.core.detect.answers import Answer, AnswerBatch, batch_answers
from kd_steps.core.detect.neck import NeckAnswer, NeckBatch, batch_necks


@dataclass(frozen=True)
class TeacherRecord:
    """The teacher's answer to one view.

    Attributes:
        pixel_hash: 64-bit hash of the view's exact uint8 pixels.
        many: what the head says; of a head with two branches, the one-to-many branch.
        one: what the one-to-one branch says; None for heads without one.
        neck: what the neck shows.
        cells: anchors a level of the head.
    """

    pixel_hash: int
    many: Answer
    one: Answer | None
    neck: NeckAnswer
    cells: tuple[int, ...]


@dataclass(frozen=True)
class TeacherBatch:
    """The teacher's answers to a batch of views: see :class:`TeacherRecord`."""

    many: AnswerBatch
    one: AnswerBatch | None
    neck: NeckBatch

    def to(self, device: torch.device) -> TeacherBatch:
        """The same answers on another device."""
        one = None if self.one is None else self.one.to(device)
        return TeacherBatch(self.many.to(device), one, self.neck.to(device))


def batch_records(records: Sequence[TeacherRecord]) -> TeacherBatch:
    """Lay records end to end, in the order of the batch."""
    ones = [record.one for record in records if record.one is not None]
    return TeacherBatch(
        many=batch_answers([record.many for record in records]),
        one=batch_answers(ones) if ones else None,
        neck=batch_necks([r.neck for r in records], [r.many for r in records], records[0].cells),
    )
