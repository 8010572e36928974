"""What a source hands to `prepare`: one record a picture, its pixels read only when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

SourceSplit = Literal["train", "val", "test", "defect_free", "unlabelled"]


class ReadBytes(Protocol):
    """Gives the encoded bytes of one picture file. Picklable, so that a worker process can call it."""

    def __call__(self) -> bytes: ...


class ReadTemplate(Protocol):
    """Gives a defect-free twin: the bytes of its file, or BGR pixels, uint8 (height, width, 3). Picklable."""

    def __call__(self) -> bytes | NDArray[np.uint8]: ...


@dataclass(frozen=True)
class SourceImage:
    """One picture of a source with its objects.

    Attributes:
        image_id: unique in the source; letters, digits, ``-`` and ``_``; the stem of the prepared file.
        group: the board, panel or sequence the picture was cut from; a group never straddles splits that Retort cuts.
        split: the split the source declares, or None where Retort is to cut it; in ``unlabelled`` nobody has looked
            for objects; in the other splits a picture without objects has none.
        suffix: file suffix of the encoded bytes, such as ``.jpg``.
        read: gives the encoded bytes.
        boxes_xyxy_px: corners of the objects, float64 of shape (n, 4), in pixels of this picture.
        class_names: class of each object, n names.
        origin: the file a person would open to mend this picture's labels.
        template: the aligned defect-free twin, where the source has one; held-out classes are erased with it.
        picture: the picture's own file, named where it cannot be read; empty: ``origin`` says enough.
        told_wh_px: width and height that the annotation was made on, where it tells them; the picture as displayed must
            have them, or its boxes lie elsewhere.
        unsure: whether it may show objects that nobody boxed, so that it is no defect-free board.
    """

    image_id: str
    group: str
    split: SourceSplit | None
    suffix: str
    read: ReadBytes
    boxes_xyxy_px: NDArray[np.float64]
    class_names: tuple[str, ...]
    origin: str
    template: ReadTemplate | None = None
    picture: str = ""
    told_wh_px: tuple[int, int] | None = None
    unsure: bool = False


@dataclass(frozen=True)
class SourceSet:
    """All pictures of a source.

    Attributes:
        images: the pictures, in the source's own order.
        classes: all class names, in the source's own order.
        warnings: what a user should know about the source, in plain words.
        faults: what a user must mend first, each with its file, line and mend; `prepare` refuses all of them at once.
    """

    images: tuple[SourceImage, ...]
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureFacts:
    """What is measured on one encoded picture.

    Attributes:
        sha256: hex digest of the file's bytes.
        pixel_hash: hex sha256 of the decoded pixels, equal for two encodings of the same picture.
        width_px: width as displayed (an EXIF rotation is applied).
        height_px: height as displayed.
        channels: channels stored in the file, 1 for grey.
        phash: 64-bit perceptual hash, as an unsigned integer.
        brightness: mean grey value, 0-255.
        contrast: standard deviation of the grey values.
    """

    sha256: str
    pixel_hash: str
    width_px: int
    height_px: int
    channels: int
    phash: int
    brightness: float
    contrast: float


class DataFaultsError(ValueError):
    """The source's files need mending; the message has one line a fault, up to a limit."""


def refuse(faults: Sequence[str], limit: int = 20) -> None:
    """Raise :class:`DataFaultsError` if there are any faults; the first ``limit`` are told, the rest counted."""
    if not faults:
        return
    rest = [f"… and {len(faults) - limit} more"] if len(faults) > limit else []
    noun = "fault" if len(faults) == 1 else "faults"
    raise DataFaultsError(
        "\n  ".join([f"{len(faults)} {noun} in the source, nothing was changed:", *faults[:limit], *rest])
    )
