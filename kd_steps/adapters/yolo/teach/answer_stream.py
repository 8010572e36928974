"""A teacher's answers to many views, drawn and answered by several processes, in order.

A convolution's threads wait for each other and nothing overlaps the drawing of views; processes with a thread each
keep all cores busy, and their answers cannot depend on the number of cores. On a GPU the processes only draw.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from kd_steps.adapters.yolo.teach.teacher import Teacher
from kd_steps.adapters.yolo.views import ViewDataset
from kd_steps.core.cache.rows import AnsweredView
from kd_steps.core.detect.views import View, pixel_hash
from kd_steps.edge.identity import cores

MOST_PROCESSES = 8  # unless asked for: each holds the activations of its batch
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class DrawnViews:
    """A batch of views: pixels (batch, 3, height, width), their hashes, and the labels of each."""

    pixels: NDArray[np.uint8]
    hashes: list[int]
    labels: list[NDArray[np.float32]]


def answered_views(
    teacher: Teacher, views: ViewDataset, wanted: Sequence[tuple[int, View]], batch: int, processes: int = 0
) -> Iterator[list[AnsweredView]]:
    """Let a teacher answer views, a batch at a time.

    Args:
        teacher: its count of forwards grows by what the processes answered.
        views: the views of some pictures.
        wanted: which: picture's place in ``views``, and view.
        batch: views a forward.
        processes: that draw, and answer where the teacher is on the CPU; 0: one a core, at most 8.

    Yields:
        The answers to each batch, in the order of ``wanted``.

    Raises:
        ValueError, OSError: a picture cannot be read; as the process met it.
    """
    on_cpu = teacher.device.type == "cpu"
    batches = [wanted[start : start + batch] for start in range(0, len(wanted), batch)]
    most = processes or min(cores(), MOST_PROCESSES)
    loader = DataLoader(
        _Work(views, batches, teacher if on_cpu else None),
        batch_size=None,
        num_workers=min(most, len(batches)),
        worker_init_fn=_end_with_parent,
        multiprocessing_context="fork",  # teacher and pictures are shared, not sent
    )
    for done in loader:
        if isinstance(done, Exception):
            raise done
        if on_cpu:
            answered, forwards = done
            teacher.forwards += forwards
            yield answered
        else:
            yield _answered(teacher, done)


def answered_here(
    teacher: Teacher, views: ViewDataset, wanted: Sequence[tuple[int, View]], batch: int
) -> Iterator[list[AnsweredView]]:
    """The same answers, drawn and given in this process; on the CPU by one thread, as each of several processes has."""
    before = torch.get_num_threads()
    if teacher.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        for start in range(0, len(wanted), batch):
            yield _answered(teacher, _drawn(views, wanted[start : start + batch]))
    finally:
        torch.set_num_threads(before)


class _Work(Dataset[Any]):
    """The batches as a data set, so that a loader spreads them over processes and keeps their order."""

    def __init__(self, views: ViewDataset, batches: list[Sequence[tuple[int, View]]], teacher: Teacher | None) -> None:
        self.views, self.batches, self.teacher = views, batches, teacher

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Any:
        try:
            drawn = _drawn(self.views, self.batches[number])
            if self.teacher is None:
                return drawn
            before = self.teacher.forwards
            return _answered(self.teacher, drawn), self.teacher.forwards - before
        except (ValueError, OSError) as fault:  # the loader would wrap it in a traceback that tells a user nothing
            return fault


def _drawn(views: ViewDataset, wanted: Sequence[tuple[int, View]]) -> DrawnViews:
    samples = [views.view(index, view) for index, view in wanted]
    return DrawnViews(
        pixels=np.stack([sample["img"].numpy() for sample in samples]),
        hashes=[pixel_hash(sample["img"].numpy()) for sample in samples],
        labels=[torch.cat([sample["cls"], sample["bboxes"]], dim=1).numpy() for sample in samples],
    )


def _answered(teacher: Teacher, drawn: DrawnViews) -> list[AnsweredView]:
    targets = teacher.targets(torch.from_numpy(drawn.pixels), drawn.hashes)
    return [
        AnsweredView(own, pixels, labels)
        for own, pixels, labels in zip(targets, drawn.pixels, drawn.labels, strict=True)
    ]


def _end_with_parent(_: int) -> None:
    """Let a killed stage leave no process behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
