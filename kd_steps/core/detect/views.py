"""Views: augmented samples that are a pure function of (picture, view number, seed, augmentation).

A teacher's answer can be cached only if the student later sees the very same pixels. So a view's randomness comes from
a key that names the picture by its content, never from worker, rank, step or the order of loading.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray


@dataclass(frozen=True, order=True)
class View:
    """One view of every picture.

    Attributes:
        closing: False for a mosaic view, True for one of the closing set: the picture as the line will show it,
            letterboxed, with flips and colour changes alone.
        number: which of its set, from 0.
    """

    closing: bool
    number: int


@dataclass(frozen=True)
class ViewPlan:
    """Which view each epoch shows.

    Attributes:
        epochs: epochs of the training.
        closing_epochs: last epochs, which show closing views.
        views: mosaic views a picture, V; epoch e shows view e mod V.
        closing_views: closing views a picture.
    """

    epochs: int
    closing_epochs: int
    views: int
    closing_views: int

    def __post_init__(self) -> None:
        if not 0 <= self.closing_epochs <= self.epochs:
            raise ValueError(f"closing epochs must lie in 0..{self.epochs}, got {self.closing_epochs}")
        if self.closing_epochs < self.epochs and self.views < 1:
            raise ValueError(f"views must be at least 1, got {self.views}")
        if self.closing_epochs and self.closing_views < 1:
            raise ValueError(f"closing_views must be at least 1, got {self.closing_views}")

    def at(self, epoch: int) -> View:
        """The view that ``epoch`` (from 0) shows."""
        first_closing = self.epochs - self.closing_epochs
        if epoch >= first_closing:
            return View(closing=True, number=(epoch - first_closing) % self.closing_views)
        return View(closing=False, number=epoch % self.views)

    def all_views(self) -> list[View]:
        """Every view that some epoch shows, mosaic views first."""
        return sorted({self.at(epoch) for epoch in range(self.epochs)})


def plan_views(epochs: int, closing_fraction: float, views: int = 0, closing_views: int = 0) -> ViewPlan:
    """Plan the views of a training.

    Args:
        epochs: epochs of the training.
        closing_fraction: last share of the epochs without mosaic, 0-1.
        views: mosaic views a picture; 0 takes a third of the mosaic epochs, rounded up: reinforced data sets lose
            nothing when a stored view comes back about three times.
        closing_views: closing views a picture; 0 likewise.
    """
    closing_epochs = round(epochs * closing_fraction)
    return ViewPlan(
        epochs=epochs,
        closing_epochs=closing_epochs,
        views=min(views, epochs - closing_epochs) or math.ceil((epochs - closing_epochs) / 3),
        closing_views=min(closing_views, closing_epochs) or math.ceil(closing_epochs / 3),
    )


def view_key(image_digest: str, view: View, seed: int, augmentation_digest: str) -> int:
    """The 64-bit key that a view's randomness is drawn from.

    Args:
        image_digest: sha256 (hex) of the picture's file.
        view: which view of the picture.
        seed: the run's seed.
        augmentation_digest: sha256 (hex) of the augmentation gains.
    """
    text = f"{image_digest}/{int(view.closing)}/{view.number}/{seed}/{augmentation_digest}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def pixel_hash(pixels: NDArray[np.uint8]) -> int:
    """XXH3 (64 bits) of a view's exact uint8 pixels, of any shape; the shape counts too.

    It guards against other libraries and torn bytes, not against an adversary, and is taken of every sample.
    """
    digest = xxhash.xxh3_64(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.intdigest()
