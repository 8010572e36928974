"""What an engine finds in many pictures, from the least score upwards."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kd_steps.edge.detector import Detector
from kd_steps.edge.identity import cores
from kd_steps.edge.pictures import Picture
from kd_steps.edge.postprocess import Detections, Found
from kd_steps.edge.preprocess import read_picture

Item = TypeVar("Item")
Progress = Callable[[str, int, int], None]  # what, how many are done, of how many


@dataclass(frozen=True)
class Finding:
    """How detections are collected.

    Attributes:
        least_score: from which score upwards.
        iou: overlap above which the weaker of two boxes of a class is dropped.
        max_detections: most a picture.
    """

    least_score: float = 0.001
    iou: float = 0.6
    max_detections: int = 300


def find(
    engine: Path,
    items: Sequence[Item],
    decode: Callable[[Item], NDArray[np.uint8]],
    finding: Finding,
    progress: Progress,
    workers: int = 0,
) -> Found:
    """Everything an engine finds, with detectors of one thread each.

    Args:
        engine: its folder.
        items: one or more pictures in whatever form.
        decode: makes one of them uint8 of shape (height, width, 3) in BGR.
        finding: how detections are collected.
        progress: called after each picture.
        workers: detectors at once; 0: one a core.
    """
    idle: queue.SimpleQueue[Detector] = queue.SimpleQueue()
    workers = min(workers or cores(), len(items))
    for _ in range(workers):
        idle.put(
            Detector.load(
                engine, confidence=finding.least_score, iou=finding.iou, max_detections=finding.max_detections
            )
        )

    def detect(item: Item) -> Detections:
        detector = idle.get()
        try:
            return detector.detect(decode(item))
        finally:
            idle.put(detector)

    every: list[Detections] = []
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(detect, items):
            every.append(found)
            progress(f"detect {engine.name}", len(every), len(items))
    return _table(every)


def find_in_pictures(
    engine: Path, pictures: Sequence[Picture], finding: Finding, progress: Progress, workers: int = 0
) -> Found:
    """Everything an engine finds in pictures on disk; the arguments are those of :func:`find`."""
    return find(engine, pictures, lambda picture: read_picture(picture.path), finding, progress, workers)


def joined(parts: Sequence[tuple[Found, int]]) -> Found:
    """What was found in parts of a list of pictures, as if it had been found in all of it.

    Args:
        parts: in the list's order, what was found in each and how many pictures it has.
    """
    firsts = np.cumsum([0, *(count for _, count in parts)])
    images = [found.image + first for (found, _), first in zip(parts, firsts, strict=False)]
    return Found(
        image=np.concatenate(images).astype(np.int32),
        column=np.concatenate([found.column for found, _ in parts]),
        score=np.concatenate([found.score for found, _ in parts]),
        box_xyxy_px=np.concatenate([found.box_xyxy_px for found, _ in parts]),
    )


def _table(every: Sequence[Detections]) -> Found:
    return Found(
        image=np.repeat(np.arange(len(every), dtype=np.int32), [len(found) for found in every]),
        column=np.concatenate([found.class_ids for found in every]).astype(np.int16),
        score=np.concatenate([found.scores for found in every]).astype(np.float32),
        box_xyxy_px=np.concatenate([found.boxes_xyxy_px for found in every]).astype(np.float32),
    )
