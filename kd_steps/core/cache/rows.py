"""A teacher's answer and its view as the columns of one cache row, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_steps.core.cache.header import CacheHeader
from kd_steps.core.cache.quantise import pack_bins, pack_vectors, packed_size, unpack_bins, unpack_vectors
from kd_steps.core.detect.answers import Answer, score_ceiling
from kd_steps.core.detect.neck import NeckAnswer, by_level
from kd_steps.core.detect.teacher_targets import TeacherTargets

Column = Callable[[str], Any]  # gives the stored bytes of a column


@dataclass(frozen=True)
class AnsweredView:
    """What the cache keeps of a view.

    Attributes:
        targets: the teacher's answer.
        pixels: the view, uint8 of shape (3, height, width), RGB.
        labels: its objects, float32 of shape (n, 5): class, centre, width and height as shares of the view.
    """

    targets: TeacherTargets
    pixels: NDArray[np.uint8]
    labels: NDArray[np.float32]


def pack_row(answered: AnsweredView, header: CacheHeader) -> dict[str, Any]:
    """The columns of a row, pixels as they are."""
    targets, neck = answered.targets, answered.targets.neck
    one_to_many = _pack_answer(targets.one_to_many)
    one_to_one = _pack_answer(targets.one_to_one) if targets.one_to_one is not None else (b"", b"", b"")
    return {
        "pixel_hash": targets.pixel_hash,
        **dict(zip(("anchors", "class_logits", "box_bins"), one_to_many, strict=True)),
        **dict(zip(("one2one_anchors", "one2one_logits", "one2one_bins"), one_to_one, strict=True)),
        "attention": np.rint(neck.attention * 255).astype(np.uint8).tobytes(),
        "pooled": neck.pooled.astype(np.float16).tobytes(),
        "vector_rows": neck.rows.astype(np.int32).tobytes(),
        "vectors": b"".join(pack_vectors(vectors) for vectors in neck.vectors),
        "pixels": answered.pixels.tobytes() if header.pixels else b"",
        "labels": answered.labels.astype(np.float32).tobytes() if header.pixels else b"",
    }


def unpack_targets(column: Column, header: CacheHeader) -> TeacherTargets:
    """The teacher's answer of a row."""
    names = ("anchors", "class_logits", "box_bins")
    one_to_many = _unpack_answer([column(name) for name in names], header)
    one_to_one = [column(name) for name in ("one2one_anchors", "one2one_logits", "one2one_bins")]
    return TeacherTargets(
        pixel_hash=column("pixel_hash"),
        one_to_many=one_to_many,
        one_to_one=_unpack_answer(one_to_one, header) if header.two_branches else None,
        neck=_unpack_neck(column, one_to_many, header),
        cells=header.cells,
    )


def unpack_sample(column: Column, header: CacheHeader) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The view of a row and its labels."""
    view = np.frombuffer(column("pixels"), np.uint8).reshape(3, header.imgsz_px, header.imgsz_px)
    return view, np.frombuffer(column("labels"), np.float32).reshape(-1, 5)


def _pack_answer(answer: Answer) -> tuple[bytes, bytes, bytes]:
    logits = answer.class_logits.astype(np.float16)
    return answer.anchors.astype(np.int32).tobytes(), logits.tobytes(), pack_bins(answer.box_bins)


def _unpack_answer(stored: list[Any], header: CacheHeader) -> Answer:
    anchors = np.frombuffer(stored[0], np.int32)
    logits = np.frombuffer(stored[1], np.float16).reshape(len(anchors), len(header.classes))
    ceiling = score_ceiling(logits, header.score_threshold, header.max_anchors)
    return Answer(anchors, logits, unpack_bins(stored[2], len(anchors), header.bins), ceiling)


def _unpack_neck(column: Column, head: Answer, header: CacheHeader) -> NeckAnswer:
    rows = np.frombuffer(column("vector_rows"), np.int32)
    stored, vectors = memoryview(column("vectors")), []
    inside = by_level(head.anchors[rows], header.cells)
    for cells, channels in zip(inside, header.neck_channels, strict=True) if header.max_vectors else ():
        vectors.append(unpack_vectors(stored, len(cells), channels))
        stored = stored[packed_size(len(cells), channels) :]
    return NeckAnswer(
        attention=np.frombuffer(column("attention"), np.uint8) / np.float32(255),
        pooled=np.frombuffer(column("pooled"), np.float16),
        rows=rows,
        vectors=tuple(vectors),
    )
