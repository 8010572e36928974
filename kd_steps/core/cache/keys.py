"""The keys of the teacher cache: which view of which picture stands where, and in which shard."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kd_steps.core.detect.views import View


@dataclass(frozen=True)
class ViewOfImage:
    """A key of the cache: a picture by its content, and one of its views."""

    image: str
    view: View


class CacheKeys(Sequence[ViewOfImage]):
    """Every key in its place, by view, then by picture digest; computed, so that it takes no memory a view.

    Args:
        images: digests of the pictures, in any order; copies of a picture share their answers.
        views: the views of each, in order.
    """

    def __init__(self, images: Sequence[str], views: Sequence[View]) -> None:
        self.images, self.views = sorted(set(images)), list(views)

    def __len__(self) -> int:
        return len(self.images) * len(self.views)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        return ViewOfImage(self.images[place % len(self.images)], self.views[place // len(self.images)])

    def shards(self, most: int) -> Iterator[tuple[str, int, int]]:
        """Every shard in its order: its name, the place of its first key among its view's, and its keys.

        Args:
            most: keys a shard.
        """
        for view in self.views:
            for part, first in enumerate(range(0, len(self.images), most)):
                yield f"{shard_prefix(view)}{part:03d}", first, min(most, len(self.images) - first)

    def place(self, image: str, view: View) -> int | None:
        """Where a key stands, or None."""
        column = bisect.bisect_left(self.images, image)
        if column == len(self.images) or self.images[column] != image or view not in self.views:
            return None
        return self.views.index(view) * len(self.images) + column


def shard_prefix(view: View) -> str:
    """How the names of a view's shards begin."""
    return f"shard-{'closing' if view.closing else 'mosaic'}-{view.number:03d}-"
