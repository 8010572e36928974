"""What a source hands to `prepare`: one record a picture, its pixels read only when they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

SourceSplit = Literal["train", "test", "defect_free"]


class ReadBytes(Protocol):
    """Gives the encoded bytes of one picture file. Picklable, so that a worker process can call it."""

    def __call__(self) -> bytes: ...


class ReadPixels(Protocol):
    """Gives the decoded BGR pixels of one picture, uint8 of shape (height, width, 3). Picklable."""

    def __call__(self) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class SourceImage:
    """One picture of a source with its objects.

    Attributes:
        image_id: unique in the source; letters, digits, ``-`` and ``_``; the stem of the prepared file.
        group: the board, panel or sequence the picture was cut from; a group never straddles splits that Retort cuts.
        split: the split the source declares, or None where Retort is to cut it.
        suffix: file suffix of the encoded bytes, such as ``.jpg``.
        read: gives the encoded bytes.
        boxes_xyxy_px: corners of the objects, float64 of shape (n, 4), in pixels of this picture.
        class_names: class of each object, n names.
        origin: the file a person would open to mend this picture's labels.
        template: pixels of the aligned defect-free twin, where the source has one; held-out classes are erased with it.
    """

    image_id: str
    group: str
    split: SourceSplit | None
    suffix: str
    read: ReadBytes
    boxes_xyxy_px: NDArray[np.float64]
    class_names: tuple[str, ...]
    origin: str
    template: ReadPixels | None = None


@dataclass(frozen=True)
class SourceSet:
    """All pictures of a source.

    Attributes:
        images: the pictures, in the source's own order.
        classes: all class names, in the source's own order.
        warnings: what a user should know about the source, in plain words.
    """

    images: tuple[SourceImage, ...]
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
