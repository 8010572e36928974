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
from kd_steps.edge.postprocess import Detections, Found

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
) -> Found:
    """Everything an engine finds, on all cores, with a detector of one thread each.

    Args:
        engine: its folder.
        items: one or more pictures in whatever form.
        decode: makes one of them uint8 of shape (height, width, 3) in BGR.
        finding: how detections are collected.
        progress: called after each picture.
    """
    idle: queue.SimpleQueue[Detector] = queue.SimpleQueue()
    workers = min(cores(), len(items))
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
    return Found(
        image=np.repeat(np.arange(len(every), dtype=np.int32), [len(found) for found in every]),
        column=np.concatenate([found.class_ids for found in every]).astype(np.int16),
        score=np.concatenate([found.scores for found in every]).astype(np.float32),
        box_xyxy_px=np.concatenate([found.boxes_xyxy_px for found in every]).astype(np.float32),
    )
