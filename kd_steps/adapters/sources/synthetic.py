"""The synthetic source: drawn SMT boards with faults, the same for the same seed in any order and any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from kd_steps.adapters.sources.board_drawing import render_board
from kd_steps.core.data.source import SourceImage, SourceSet, SourceSplit
from kd_steps.core.synthetic.board_layout import lay_out_board
from kd_steps.core.synthetic.boards import Board
from kd_steps.core.synthetic.components import FAULT_CLASSES

PICTURES_PER_BOARD = 4
FAULTS_LOW, FAULTS_HIGH = 3, 5
"""Faults on a picture of 256 px; they grow with its side."""
# One training picture in so many is of a good board: a detector that never sees one calls good parts faulty.
GOOD_EVERY = 4
NEW_CLASS_SHARE = 0.5
"""Share of the test pictures that show a new class."""
JPEG_QUALITY = 95

Series = Literal["train", "new", "test", "good"]


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
    new_classes: Sequence[str],
    image_size_px: int,
    seed: int,
) -> SourceSet:
    """Draw SMT boards; boxes are there at once, pixels only when a picture is read.

    Up to four pictures are fields of one board and share its ``group``; no board is in two splits. The new classes
    show on the new-part pictures, which the source declares as training pictures, and in the test split; no other
    training picture has one. Every other class of ``FAULT_CLASSES`` is a base class and shows on all faulty pictures;
    one training picture in four is of a good board.

    Args:
        train_boards: pictures for training and validation, three in four with base faults.
        test_boards: pictures with base and new faults, only for evaluation.
        defect_free_boards: pictures without any fault.
        new_part_boards: further training pictures for each new class; every one shows at least one object of it.
        new_classes: the fault classes to be held out of the base set, such as ``tombstone``.
        image_size_px: side of the square pictures, at least 64 px; larger ones show more parts at the same scale.
        seed: same seed, same bytes.

    Raises:
        ValueError: ``image_size_px`` is below 64, a new class is unknown, or no class is left as a base class.
    """
    if image_size_px < 64:
        raise ValueError(f"prepare.source.synthetic.image_size_px: must be at least 64 px, got {image_size_px}")
    if unknown := [name for name in new_classes if name not in FAULT_CLASSES]:
        raise ValueError(f"prepare.new_parts.classes: {unknown} unknown; drawn boards have {list(FAULT_CLASSES)}")
    if set(new_classes) == set(FAULT_CLASSES):
        raise ValueError(
            "prepare.new_parts.classes: holds out every class of the drawn boards; leave one as base class"
        )
    series: tuple[tuple[Series, SourceSplit, int], ...] = (
        ("train", "train", train_boards),
        ("new", "train", new_part_boards * len(set(new_classes))),
        ("test", "test", test_boards),
        ("good", "defect_free", defect_free_boards),
    )
    images = [
        picture
        for name, split, count in series
        for picture in _pictures(name, split, count, tuple(dict.fromkeys(new_classes)), image_size_px, seed)
    ]
    return SourceSet(tuple(images), FAULT_CLASSES)


def _pictures(
    series: Series, split: SourceSplit, count: int, new_classes: tuple[str, ...], size_px: int, seed: int
) -> Iterator[SourceImage]:
    """The pictures of one series; each follows from its seed, its name and the new classes alone."""
    # Small sets get more boards than pictures a board, so that a split by board has something to cut.
    pictures_per_board = min(PICTURES_PER_BOARD, max(1, count // 8))
    for index in range(count):
        image_id = f"{series}-{index:05d}"
        group = f"{series}-board-{index // pictures_per_board:05d}"
        rng = np.random.default_rng(_number(seed, "layout", image_id))
        wanted = _wanted_new_classes(rng, series, index, new_classes)
        good = series == "good" or (series == "train" and index % GOOD_EVERY == GOOD_EVERY - 1)
        faults = [] if good else _draw_fault_classes(rng, new_classes, wanted, size_px)
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


def _wanted_new_classes(
    rng: np.random.Generator, series: Series, index: int, new_classes: tuple[str, ...]
) -> tuple[str, ...]:
    """The new classes that a picture is to show."""
    if series == "new":
        return (new_classes[index % len(new_classes)],)
    if series == "test":
        return tuple(name for name in new_classes if rng.random() < NEW_CLASS_SHARE)
    return ()


def _draw_fault_classes(
    rng: np.random.Generator, new_classes: tuple[str, ...], wanted: tuple[str, ...], size_px: int
) -> list[str]:
    """The faults of one picture, base classes in equal shares; new ones first, because they must find room."""
    scale = size_px / 256
    count = max(1, round(float(rng.uniform(FAULTS_LOW - 0.5, FAULTS_HIGH + 0.5)) * scale))
    base_classes = [name for name in FAULT_CLASSES if name not in new_classes]
    rounds = -(-count // len(base_classes))
    base = [str(name) for _ in range(rounds) for name in rng.permutation(base_classes)]
    new = [name for name in wanted for _ in range(max(1, round(float(rng.uniform(0.5, 2.5)) * scale)))]
    return [*new, *base][: max(count, len(new))]


def _number(seed: int, purpose: str, name: str) -> int:
    """A 128-bit seed of its own for each purpose and name, the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()[:16], "big")
