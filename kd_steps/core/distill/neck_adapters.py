"""Adapters from the student's neck channels to the teacher's: trained with the student, left behind at export."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class NeckAdapters(nn.Module):
    """One adapter a level for vectors, one linear map for pooled channels.

    Two linear layers with a ReLU between, as in Ultralytics' own distillation, and no batch norm: a level may have a
    single vector in a batch, and a norm over it would blow up.

    Args:
        student_channels: of each level.
        teacher_channels: of each level.

    Raises:
        ValueError: the necks have different numbers of levels.
    """

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int]) -> None:
        super().__init__()
        if len(student_channels) != len(teacher_channels):
            raise ValueError(
                f"the student's neck has {len(student_channels)} levels, the teacher's {len(teacher_channels)}: the "
                "feature and the channel term compare level with level"
            )
        self.vectors = nn.ModuleList(
            nn.Sequential(nn.Linear(mine, theirs), nn.ReLU(), nn.Linear(theirs, theirs))
            for mine, theirs in zip(student_channels, teacher_channels, strict=True)
        )
        self.pooled = nn.Linear(sum(student_channels), sum(teacher_channels))
