"""Which pictures Ultralytics' mixing augmentations draw as partners: all of the same kind, labelled or not.

A mosaic of both kinds could be used for nothing: its unlabelled parts show objects that its labels call background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ultralytics.data.augment import BaseMixTransform, Compose, Mosaic


class PictureSource(Protocol):
    """What a mixing augmentation reads its partners from."""

    def get_image_and_label(self, index: int) -> dict[str, Any]: ...


class Partners:
    """Some pictures of a data set, as the whole set that a mixing augmentation sees.

    Args:
        source: the data set.
        indices: of the pictures in it.
    """

    def __init__(self, source: PictureSource, indices: Sequence[int]) -> None:
        self.source, self.indices = source, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """The picture at a place of ``indices``, with its labels."""
        return self.source.get_image_and_label(self.indices[index])


def draw_from(partners: Partners, transforms: Compose) -> None:
    """Make every mixing augmentation in a (nested) transform draw from all of ``partners``, each as likely.

    Ultralytics' mosaic would draw from the recently loaded pictures, unless the set is kept in memory.
    """
    for transform in transforms.transforms:
        nested = transform if isinstance(transform, Compose) else getattr(transform, "pre_transform", None)
        if isinstance(nested, Compose):
            draw_from(partners, nested)
        if isinstance(transform, BaseMixTransform):
            transform.dataset = partners
        if isinstance(transform, Mosaic):
            transform.buffer_enabled = False
