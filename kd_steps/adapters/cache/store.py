"""The teacher cache on disk: sharded Arrow IPC, memory-mapped, resumable shard by shard.

A shard holds one view of some pictures and is a pure function of the header and its name: workers, ranks and the order
of writing cannot change it, and a schedule with more or fewer views leaves it as it is. It says itself what it was made
from; its seal is written last, and a shard without a matching one is made again, alone. Nothing here is kept in memory
a view: a key's place is computed, not looked up.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_steps.adapters.cache.folder import HEADER, CacheError, filling, repairing, stored_header
from kd_steps.adapters.cache.shards import (
    BATCH_ROWS,
    SEAL_SUFFIX,
    SUFFIX,
    ShardPlace,
    column_reader,
    open_shard,
    shard_fault,
    shard_place,
    write_shard,
)
from kd_steps.core.cache.header import CacheHeader
from kd_steps.core.cache.keys import CacheKeys, ViewOfImage, shard_prefix
from kd_steps.core.detect.views import View

if TYPE_CHECKING:  # they load torch, without which a finished cache is handed over
    from kd_steps.core.cache.rows import AnsweredView
    from kd_steps.core.detect.teacher_targets import TeacherTargets

NAMED_HOLES = 3  # in a message


def write_shards(
    folder: Path,
    header: CacheHeader,
    keys: CacheKeys,
    shard_views: int,
    precision: str,
    answer: Callable[[Sequence[ViewOfImage]], Iterator[AnsweredView]],
    on_shard: Callable[[int, bool], None],
) -> None:
    """Write every shard that is not there in full.

    Args:
        folder: as readied by :func:`open_for_writing`.
        header: of this cache.
        keys: of the whole cache.
        shard_views: most keys a shard.
        precision: number format that the teacher answers in now; finished shards of another one stay.
        answer: runs the teacher on some keys, in their order.
        on_shard: told after each shard its number of views and whether it was made now.

    Raises:
        OSError: the disk is full; finished shards stay, and the next run goes on behind them.
    """
    for shard, missing in planned_shards(folder, keys, shard_views, precision):
        if missing:
            make_shard(folder, shard, header, keys, answer)
        on_shard(shard.place.count, missing)
    remove_unplanned(folder, keys, shard_views)


@dataclass(frozen=True)
class PlannedShard:
    """A shard, and the place of its first key among all."""

    place: ShardPlace
    start: int


def planned_shards(
    folder: Path, keys: CacheKeys, shard_views: int, precision: str
) -> Iterator[tuple[PlannedShard, bool]]:
    """Every shard of a cache, and whether it is not there in full; the arguments are those of :func:`write_shards`."""
    start, (_, digest) = 0, stored_header(folder)
    for name, first, count in keys.shards(shard_views):
        path, place = folder / f"{name}{SUFFIX}", ShardPlace(name, first, count, digest, precision)
        found = shard_place(path) if shard_fault(path) is None else None
        yield PlannedShard(place, start), found is None or replace(found, precision=precision) != place
        start += count


def make_shard(
    folder: Path,
    shard: PlannedShard,
    header: CacheHeader,
    keys: CacheKeys,
    answer: Callable[[Sequence[ViewOfImage]], Iterator[AnsweredView]],
) -> None:
    """Have the keys of a shard answered, and write it."""
    part = keys[shard.start : shard.start + shard.place.count]
    write_shard(folder / f"{shard.place.name}{SUFFIX}", shard.place, header, zip(part, answer(part), strict=True))


def remove_unplanned(folder: Path, keys: CacheKeys, shard_views: int) -> None:
    """Remove the shards of a time with more views or smaller shards."""
    planned = file_names(keys, shard_views)
    for path in folder.glob("shard-*.*"):
        if path.name not in planned:
            path.unlink()


def file_names(keys: CacheKeys, shard_views: int) -> set[str]:
    """The names of all files of a cache that holds these keys, and nothing else."""
    shards = [name for name, _, _ in keys.shards(shard_views)]
    return {HEADER, *(f"{name}{ending}" for name in shards for ending in (SUFFIX, SEAL_SUFFIX))}


class TeacherCache:
    """A finished cache, memory-mapped; safe to send to loader processes.

    Args:
        folder: where the cache lies.
        expected: the header that the caller's teacher, data and libraries would give.
        keys: the views that the caller needs.
        prove: hold every shard's bytes to its seal, which reads all of them.

    Raises:
        CacheError: there is no cache, it was made from something else, it is not finished, or a shard is damaged.
    """

    def __init__(self, folder: Path, expected: CacheHeader, keys: CacheKeys, prove: bool = True) -> None:
        stored, self._shards_of = stored_header(folder)
        if faults := expected.differences(stored):
            raise CacheError(
                f"{folder}: the teacher cache was made from something else ({'; '.join(faults)}); "
                f"run {filling(folder)}, with -f -s where that finds nothing to do"
            )
        self.folder, self.header, self.keys = folder, expected, keys
        places = self._places(prove)
        self.shards = [path for path, _ in places]
        self._ends = list(itertools.accumulate(place.count for _, place in places))
        self._precisions = [place.precision for _, place in places]
        self._open()

    def _places(self, prove: bool) -> list[tuple[Path, ShardPlace]]:
        """Every shard with its place, in order, each its own, followed by the next and, if asked, proven whole."""
        placed, damaged, holes = [], dict[Path, str](), list[str]()
        for prefix in map(shard_prefix, self.keys.views):
            told = []
            for path in self.folder.glob(f"{prefix}*{SUFFIX}"):
                fault = shard_fault(path) if prove else None
                place = None if fault else shard_place(path)
                if fault := fault or self._misplaced(path, place):
                    damaged[path] = fault
                elif place:
                    told.append((path, place))
            in_order = sorted(told, key=lambda one: one[1].first)
            holes += [f"{prefix}*: {hole}" for hole in _holes([p for _, p in in_order], len(self.keys.images))]
            placed += in_order
        if damaged:
            named = "\n".join(f"{path}: {fault}" for path, fault in damaged.items())
            it, these = ("it", "this shard") if len(damaged) == 1 else ("one of them", "these shards")
            raise CacheError(f"{named}; remove {it} and run {repairing(self.folder)}, which makes only {these} again")
        if holes:
            held = sum(place.count for _, place in placed)
            named = ", ".join(holes[:NAMED_HOLES]) + (", …" if len(holes) > NAMED_HOLES else "")
            raise CacheError(
                f"{self.folder}: holds {held} of {len(self.keys)} views ({named}); "
                f"run {repairing(self.folder)} to finish it"
            )
        return placed

    def _misplaced(self, path: Path, place: ShardPlace | None) -> str | None:
        """What is wrong with where a shard lies."""
        if place is None or place.answers_digest != self._shards_of:
            return f"was made from something else than {HEADER} tells"
        return None if place.name == path.stem else f"holds the answers of {place.name}"

    def _open(self) -> None:
        self._readers = [open_shard(path) for path in self.shards]

    def __getstate__(self) -> dict[str, Any]:
        """Only what a loader process needs to map the shards itself."""
        return {name: value for name, value in vars(self).items() if name != "_readers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def views_by_precision(self) -> dict[str, int]:
        """How many views were answered in each number format."""
        found: dict[str, int] = {}
        for precision, (start, end) in zip(self._precisions, itertools.pairwise([0, *self._ends]), strict=True):
            found[precision] = found.get(precision, 0) + end - start
        return found

    @property
    def bytes(self) -> int:
        """Size of all shards on disk."""
        return sum(path.stat().st_size for path in self.shards)

    @property
    def keeps_views(self) -> bool:
        """Whether the views themselves are kept."""
        return self.header.pixels

    def precision(self, place: int) -> str:
        """The number format that the teacher answered a key in, by the key's place."""
        return self._precisions[bisect.bisect_right(self._ends, place)]

    def targets(self, image: str, view: View) -> TeacherTargets:
        """The teacher's answer to a view of a picture.

        Raises:
            CacheError: the cache does not hold that view.
        """
        from kd_steps.core.cache.rows import unpack_targets

        return unpack_targets(self._row(image, view), self.header)

    def sample(self, image: str, view: View) -> tuple[Any, Any] | None:
        """The view itself, where pixels are kept.

        Returns:
            Pixels, uint8 of shape (3, height, width), RGB, unpacked for this call alone; and labels, float32 of shape
            (objects, 5): class, centre, width and height as shares of the view. None where pixels are not kept.

        Raises:
            CacheError: the cache does not hold that view.
        """
        from kd_steps.core.cache.rows import unpack_sample

        if not self.header.pixels:
            return None
        return unpack_sample(self._row(image, view), self.header)

    def _row(self, image: str, view: View) -> Callable[[str], Any]:
        """Gives the columns of a view."""
        place = self.keys.place(image, view)
        if place is None:
            raise CacheError(
                f"{self.folder}: no answer for picture {image[:12]} and {view}; run {filling(self.folder)}"
            )
        shard = bisect.bisect_right(self._ends, place)
        batch, row = divmod(place - (self._ends[shard - 1] if shard else 0), BATCH_ROWS)
        rows = self._readers[shard].get_batch(batch)
        stored = tuple(rows[name][row].as_py() for name in ("image", "closing", "view"))
        if stored != (image, view.closing, view.number):
            raise CacheError(
                f"{self.shards[shard]}: batch {batch} holds another view than its place says; remove {self.folder} "
                f"and run {filling(self.folder)}"
            )
        return column_reader(rows, row, self.header)


def _holes(places: Sequence[ShardPlace], pictures: int) -> Iterator[str]:
    """What of a view's pictures its shards, in order, do not hold, or hold twice.

    Twice: shards of another size beside those that took their place, after a kill.
    """
    ends = [0, *(place.first + place.count for place in places)]
    starts = [*(place.first for place in places), pictures]
    for end, start in zip(ends, starts, strict=True):
        if end != start:
            yield f"pictures {min(end, start)} to {max(end, start) - 1} {'missing' if end < start else 'twice'}"
