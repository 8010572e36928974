"""The teacher cache on disk: sharded Arrow IPC, memory-mapped, resumable shard by shard.

A shard holds one view of some pictures and is a pure function of the header and its name: workers, ranks and the order
of writing cannot change it, and a schedule with more or fewer views leaves it as it is. Its sha256 stands in a note
beside it, written last; a shard without a matching note is made again, alone. Nothing here is kept in memory a view: a
key's place is computed, not looked up.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from kd_steps.adapters.files import atomic_path, read_json, sha256_of, write_json
from kd_steps.core.cache_header import CacheHeader
from kd_steps.core.cache_keys import CacheKeys, ViewOfImage, shard_prefix
from kd_steps.core.cache_rows import AnsweredView, pack_row, unpack_record, unpack_sample
from kd_steps.core.teacher_records import TeacherRecord
from kd_steps.core.views import View

HEADER = "header.json"
VIEW_COUNTS = ("views", "closing_views")  # of the header; no shard depends on them
BATCH_ROWS = 16  # of an Arrow batch: what writing holds in memory, and by which reading finds a row
CODEC = "zstd"  # boards shrink tenfold and more, attention maps by half; it unpacks faster than PNG

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("closing", pa.bool_()),
        ("view", pa.uint16()),
        ("pixel_hash", pa.uint64()),
        ("anchors", pa.binary()),  # int32, (n,)
        ("class_logits", pa.binary()),  # float16, (n, classes)
        ("box_bins", pa.binary()),  # kd_steps.core.bin_packing, (n, 4, bins)
        ("one2one_anchors", pa.binary()),  # the same of the one-to-one branch, empty where there is none
        ("one2one_logits", pa.binary()),
        ("one2one_bins", pa.binary()),
        ("attention", pa.binary()),  # uint8, (cells,), compressed
        ("pooled", pa.binary()),  # float16, (channels,)
        ("vector_rows", pa.binary()),  # int32, (k,)
        ("vectors", pa.binary()),  # kd_steps.core.vector_packing, by level
        ("pixels", pa.binary()),  # uint8, (3, height, width), compressed
        ("labels", pa.binary()),  # float32, (objects, 5): class, centre, width and height as shares of the view
    ]
)


class CacheError(ValueError):
    """The cache cannot be used; the message names the file or the field, and the mend."""


def open_for_writing(folder: Path, header: CacheHeader) -> str:
    """Ready a folder for a cache with this header; finished shards of the same cache are kept.

    So are those of a cache that differs in the number of its views alone: another schedule asks only for what is new.

    Returns:
        What was found: ``new``, ``resumed``, or which fields differ in the cache that had to go.
    """
    for torn in folder.glob(".shard-*"):  # of a kill, perhaps at a time with more shards
        torn.unlink()
    note = folder / HEADER
    stored = read_json(note) if note.exists() else None
    if stored is not None and not (differences := header.differences(stored, but=VIEW_COUNTS)):
        if stored != header.to_dict():
            write_json(note, header.to_dict())
        return "resumed"
    for old in [*folder.glob("*.arrow"), *folder.glob("shard-*.json"), note]:
        old.unlink(missing_ok=True)
    write_json(note, header.to_dict())
    return "new" if stored is None else "another cache stood here (" + "; ".join(differences) + ")"


def write_shards(
    folder: Path,
    header: CacheHeader,
    keys: CacheKeys,
    shard_views: int,
    answer: Callable[[Sequence[ViewOfImage]], Iterator[AnsweredView]],
    on_shard: Callable[[int, bool], None],
) -> None:
    """Write every shard that is not there in full.

    Args:
        folder: as readied by :func:`open_for_writing`.
        header: of this cache.
        keys: of the whole cache.
        shard_views: most keys a shard.
        answer: runs the teacher on some keys, in their order.
        on_shard: told after each shard its number of views and whether it was made now.

    Raises:
        OSError: the disk is full; finished shards stay, and the next run goes on behind them.
    """
    planned, start = list(keys.shards(shard_views)), 0
    for name, first, count in planned:
        path = folder / f"{name}.arrow"
        fresh = shard_fault(path, (first, count)) is not None
        if fresh:
            _write_shard(path, header, keys[start : start + count], answer)
            write_json(path.with_suffix(".json"), {"sha256": sha256_of(path), "first": first, "views": count})
        on_shard(count, fresh)
        start += count
    names = {name for name, _, _ in planned}
    for path in folder.glob("shard-*.*"):
        if path.stem not in names:  # of a time with more views or smaller shards
            path.unlink()


def _write_shard(
    path: Path,
    header: CacheHeader,
    part: Sequence[ViewOfImage],
    answer: Callable[[Sequence[ViewOfImage]], Iterator[AnsweredView]],
) -> None:
    answered = zip(part, answer(part), strict=True)
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), SCHEMA) as writer:
        while rows := [_row(key, view, header) for key, view in itertools.islice(answered, BATCH_ROWS)]:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))


def _row(key: ViewOfImage, answered: AnsweredView, header: CacheHeader) -> dict[str, Any]:
    packed = pack_row(answered, header)
    squeezed = {n: pa.compress(packed[n], codec=CODEC, asbytes=True) for n in _sizes(header) if packed[n]}
    return {"image": key.image, "closing": key.view.closing, "view": key.view.number, **packed, **squeezed}


def _sizes(header: CacheHeader) -> dict[str, int]:
    """The columns that are compressed, and their bytes before."""
    return {"pixels": header.pixel_bytes, "attention": sum(header.cells)}


def shard_fault(path: Path, keys: tuple[int, int] | None = None) -> str | None:
    """What is wrong with a shard, or None.

    Args:
        path: of the shard.
        keys: place of its first key among its view's, and how many it is to hold; None: whatever its note says.
    """
    note = path.with_suffix(".json")
    if not path.exists() or not note.exists():
        return "is missing or was not finished"
    try:
        told = read_json(note)
    except ValueError:
        return "was not finished (its note is torn)"
    if keys is not None and (told.get("first"), told["views"]) != keys:
        return f"holds {told['views']} pictures from {told.get('first')} on instead of {keys[1]} from {keys[0]} on"
    return None if told["sha256"] == sha256_of(path) else "does not have the bytes that were written (sha256 differs)"


class TeacherCache:
    """A finished cache, memory-mapped; safe to send to loader processes.

    Args:
        folder: where the cache lies.
        expected: the header that the caller's teacher, data and libraries would give.
        keys: the views that the caller needs.
        any_precision: whether the answers may have been computed in another number format than the caller's machine
            would take.

    Raises:
        CacheError: there is no cache, it was made from something else, it is not finished, or a shard is damaged.
    """

    def __init__(self, folder: Path, expected: CacheHeader, keys: CacheKeys, *, any_precision: bool = False) -> None:
        if not (folder / HEADER).exists():
            raise CacheError(f"{folder}: no teacher cache; run `dvc repro cache_logits`")
        stored = read_json(folder / HEADER)
        if any_precision and "precision" in stored:
            expected = replace(expected, precision=stored["precision"])
        if faults := expected.differences(stored):
            raise CacheError(
                f"{folder}: the teacher cache was made from something else ({'; '.join(faults)}); "
                "run `dvc repro cache_logits`"
            )
        self.folder, self.header, self.keys = folder, expected, keys
        self.shards = [path for view in keys.views for path in sorted(folder.glob(f"{shard_prefix(view)}*.arrow"))]
        if damaged := {path: fault for path in self.shards if (fault := shard_fault(path))}:
            named = "\n".join(f"{path}: {fault}" for path, fault in damaged.items())
            these = "this shard" if len(damaged) == 1 else "these shards"
            raise CacheError(f"{named}; run `dvc repro -f cache_logits`, which makes only {these} again")
        counts = (read_json(path.with_suffix(".json"))["views"] for path in self.shards)
        self._ends = list(itertools.accumulate(counts))
        self._open()
        if len(self) != len(keys):
            raise CacheError(
                f"{folder}: holds {len(self)} of {len(keys)} views; run `dvc repro cache_logits` to finish it"
            )

    def _open(self) -> None:
        self._readers = [pa.ipc.open_file(pa.memory_map(str(path))) for path in self.shards]

    def __getstate__(self) -> dict[str, Any]:
        """Only what a loader process needs to map the shards itself."""
        return {name: value for name, value in vars(self).items() if name != "_readers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def bytes(self) -> int:
        """Size of all shards on disk."""
        return sum(path.stat().st_size for path in self.shards)

    @property
    def keeps_views(self) -> bool:
        """Whether the views themselves are kept."""
        return self.header.pixels

    def record(self, image: str, view: View) -> TeacherRecord:
        """The teacher's answer to a view of a picture.

        Raises:
            CacheError: the cache does not hold that view.
        """
        return unpack_record(self._row(image, view), self.header)

    def sample(self, image: str, view: View) -> tuple[Any, Any] | None:
        """The view itself, where pixels are kept.

        Returns:
            Pixels, uint8 of shape (3, height, width), RGB, unpacked for this call alone; and labels, float32 of shape
            (objects, 5): class, centre, width and height as shares of the view. None where pixels are not kept.

        Raises:
            CacheError: the cache does not hold that view.
        """
        if not self.header.pixels:
            return None
        return unpack_sample(self._row(image, view), self.header)

    def _row(self, image: str, view: View) -> Callable[[str], Any]:
        """Gives the columns of a view; those that are not compressed, without copying them."""
        place = self.keys.place(image, view)
        if place is None or place >= len(self):
            raise CacheError(
                f"{self.folder}: no answer for picture {image[:12]} and {view}; run `dvc repro cache_logits`"
            )
        shard = bisect.bisect_right(self._ends, place)
        batch, row = divmod(place - (self._ends[shard - 1] if shard else 0), BATCH_ROWS)
        rows = self._readers[shard].get_batch(batch)
        stored = tuple(rows[name][row].as_py() for name in ("image", "closing", "view"))
        if stored != (image, view.closing, view.number):
            raise CacheError(
                f"{self.shards[shard]}: batch {batch} holds another view than its place says; remove {self.folder} "
                "and run `dvc repro cache_logits`"
            )

        sizes = _sizes(self.header)

        def column(name: str) -> Any:
            scalar = rows[name][row]
            if name == "pixel_hash":
                return scalar.as_py()
            stored = scalar.as_buffer()
            return pa.decompress(stored, sizes[name], codec=CODEC) if name in sizes and stored.size else stored

        return column
