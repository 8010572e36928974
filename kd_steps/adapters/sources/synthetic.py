"""The synthetic source: drawn SMT boards with faults, the same for the same seed in any order and any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kd_steps.adapters.sources.board_drawing import render_board
from kd_steps.core.board_layout import lay_out_board
from kd_steps.core.boards import Board
from kd_steps.core.parts import BASE_FAULT_CLASSES, NEW_FAULT_CLASSES
from kd_steps.core.records import SourceImage, SourceSet, SourceSplit

PICTURES_PER_BOARD = 4
FAULTS_LOW, FAULTS_HIGH = 2, 5
"""Faults on a picture of 256 px; they grow with its side."""
JPEG_QUALITY = 95


@dataclass(frozen=True)
class ReadBoardJpeg:
    """Draws a board and gives it as the bytes of a JPEG file."""

    board: Board

    def __call__(self) -> bytes:
        done, encoded = cv2.imencode(".jpg", render_board(self.board), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise RuntimeError("OpenCV could not encode a drawn board as JPEG; reinstall opencv-python-headless")
        return bytes(encoded)


@dataclass(frozen=True)
class ReadBoardTemplate:
    """Draws the same field without its faults: same wiring, light, blur and noise."""

    board: Board

    def __call__(self) -> NDArray[np.uint8]:
        return render_board(self.board.without_faults())


def load_synthetic(
    *,
    train_boards: int,
    test_boards: int,
    defect_free_boards: int,
    new_part_boards: int,
    image_size_px: int,
    seed: int,
) -> SourceSet:
    """Draw SMT boards; boxes are there at once, pixels only when a picture is read.

    Up to four pictures are fields of one board and share its ``group``; no board is in two splits. New fault classes
    show on the new-part pictures, which the source declares as training pictures, and in the test split; no other
    training picture and no defect-free picture has one.

    Args:
        train_boards: pictures with base faults for training and validation.
        test_boards: pictures with base and new faults, only for evaluation.
        defect_free_boards: pictures without any fault.
        new_part_boards: further training pictures, each with at least one object of a new class.
        image_size_px: side of the square pictures, at least 64 px; larger ones show more parts at the same scale.
        seed: same seed, same bytes.

    Raises:
        ValueError: ``image_size_px`` is below 64.
    """
    if image_size_px < 64:
        raise ValueError(f"prepare.source.synthetic.image_size_px: must be at least 64 px, got {image_size_px}")
    images = [
        *_pictures("train", "train", train_boards, image_size_px, seed),
        *_pictures("new", "train", new_part_boards, image_size_px, seed),
        *_pictures("test", "test", test_boards, image_size_px, seed),
        *_pictures("good", "defect_free", defect_free_boards, image_size_px, seed),
    ]
    return SourceSet(tuple(images), (*BASE_FAULT_CLASSES, *NEW_FAULT_CLASSES))


def _pictures(series: str, split: SourceSplit, count: int, size_px: int, seed: int) -> Iterator[SourceImage]:
    """The pictures of one series; each follows from its seed and name alone."""
    # Small sets get more boards than pictures a board, so that a split by board has something to cut.
    pictures_per_board = min(PICTURES_PER_BOARD, max(1, count // 8))
    for index in range(count):
        image_id = f"{series}-{index:05d}"
        group = f"{series}-board-{index // pictures_per_board:05d}"
        rng = np.random.default_rng(_number(seed, "layout", image_id))
        faults = _draw_fault_classes(rng, series, size_px)
        board = lay_out_board(rng, size_px, faults, _number(seed, "design", group), _number(seed, "light", image_id))
        yield SourceImage(
            image_id=image_id,
            group=group,
            split=split,
            suffix=".jpg",
            read=ReadBoardJpeg(board),
            boxes_xyxy_px=board.boxes_xyxy_px,
            class_names=board.class_names,
            origin=f"synthetic board {image_id} (seed {seed})",
            template=ReadBoardTemplate(board),
        )


def _draw_fault_classes(rng: np.random.Generator, series: str, size_px: int) -> list[str]:
    """The faults of one picture, base classes in equal shares; new ones first, because they must find room."""
    if series == "good":
        return []
    scale = size_px / 256
    count = max(1, round(float(rng.uniform(FAULTS_LOW - 0.5, FAULTS_HIGH + 0.5)) * scale))
    rounds = -(-count // len(BASE_FAULT_CLASSES))
    base = [str(name) for _ in range(rounds) for name in rng.permutation(BASE_FAULT_CLASSES)][:count]
    new: list[str] = []
    for name in NEW_FAULT_CLASSES:
        if series == "new" or (series == "test" and rng.random() < 0.5):
            new += [name] * max(1, round(float(rng.uniform(0.5, 2.5)) * scale))
    return [*new, *base][: max(count, len(new))]


def _number(seed: int, purpose: str, name: str) -> int:
    """A 128-bit seed of its own for each purpose and name, the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()[:16], "big")
