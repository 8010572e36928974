"""The teacher cache on disk: sharded Arrow IPC, memory-mapped, resumable shard by shard.

A shard is a pure function of the header and its number: workers, ranks and the order of writing cannot change it. Its
sha256 stands in a note beside it, written last; a shard without a matching note is made again, alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kd_steps.adapters.files import atomic_path, read_json, sha256_of, write_json
from kd_steps.core.cache_header import CacheHeader
from kd_steps.core.teacher_records import TeacherRecord
from kd_steps.core.views import View

HEADER = "header.json"
INT8_STEP = 0.125  # of a logit; bins are stored relative to their largest, so int8 reaches 16 below it

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("closing", pa.bool_()),
        ("view", pa.uint16()),
        ("pixel_hash", pa.uint64()),
        ("anchors", pa.binary()),  # int32
        ("class_logits", pa.binary()),  # float16, (n, classes)
        ("box_bins", pa.binary()),  # float16 or int8, (n, 4, bins)
    ]
)


class CacheError(ValueError):
    """The cache cannot be used; the message names the file or the field, and the mend."""


@dataclass(frozen=True)
class ViewOfImage:
    """A key of the cache: a picture by its content, and one of its views."""

    image: str
    view: View


def cache_keys(images: Sequence[str], views: Sequence[View]) -> list[ViewOfImage]:
    """Every key in its place: by view, then by picture digest."""
    return [ViewOfImage(image, view) for view in views for image in sorted(images)]


def open_for_writing(folder: Path, header: CacheHeader) -> str:
    """Ready a folder for a cache with this header; finished shards of the same cache are kept.

    Returns:
        What was found: ``new``, ``resumed``, or which fields differ in the cache that had to go.
    """
    note = folder / HEADER
    stored = read_json(note) if note.exists() else None
    if stored == header.to_dict():
        return "resumed"
    for old in [*folder.glob("*.arrow"), *folder.glob("shard-*.json"), note]:
        old.unlink(missing_ok=True)
    write_json(note, header.to_dict())
    return "new" if stored is None else "another cache stood here (" + "; ".join(header.differences(stored)) + ")"


def write_shards(
    folder: Path,
    header: CacheHeader,
    keys: Sequence[ViewOfImage],
    shard_views: int,
    answer: Callable[[Sequence[ViewOfImage]], Iterator[TeacherRecord]],
    on_shard: Callable[[int, bool], None],
) -> None:
    """Write every shard that is not there in full.

    Args:
        folder: as readied by :func:`open_for_writing`.
        header: of this cache.
        keys: of the whole cache, from :func:`cache_keys`.
        shard_views: keys a shard.
        answer: runs the teacher on some keys, in their order.
        on_shard: told after each shard its number of views and whether it was made now.

    Raises:
        OSError: the disk is full; finished shards stay, and the next run goes on behind them.
    """
    for number, start in enumerate(range(0, len(keys), shard_views)):
        part = keys[start : start + shard_views]
        path = folder / f"shard-{number:05d}.arrow"
        fresh = shard_fault(path, len(part)) is not None
        if fresh:
            rows = [_row(key, record, header) for key, record in zip(part, answer(part), strict=True)]
            with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), SCHEMA) as writer:
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            write_json(path.with_suffix(".json"), {"sha256": sha256_of(path), "views": len(part)})
        on_shard(len(part), fresh)
    for stale in folder.glob("shard-*.*"):  # of a time with smaller shards
        if int(stale.stem.removeprefix("shard-")) * shard_views >= len(keys):
            stale.unlink()


def shard_fault(path: Path, views: int | None = None) -> str | None:
    """What is wrong with a shard, or None."""
    note = path.with_suffix(".json")
    if not path.exists() or not note.exists():
        return "is missing or was not finished"
    try:
        told = read_json(note)
    except ValueError:
        return "was not finished (its note is torn)"
    if views is not None and told["views"] != views:
        return f"holds {told['views']} views instead of {views}"
    return None if told["sha256"] == sha256_of(path) else "does not have the bytes that were written (sha256 differs)"


class TeacherCache:
    """A finished cache, memory-mapped; safe to send to loader processes.

    Args:
        folder: where the cache lies.
        expected: the header that the caller's teacher, data and libraries would give.
        views: how many views the caller needs.

    Raises:
        CacheError: there is no cache, it was made from something else, it is not finished, or a shard is damaged.
    """

    def __init__(self, folder: Path, expected: CacheHeader, views: int) -> None:
        if not (folder / HEADER).exists():
            raise CacheError(f"{folder}: no teacher cache; run `dvc repro cache_logits`")
        if faults := expected.differences(read_json(folder / HEADER)):
            raise CacheError(
                f"{folder}: the teacher cache was made from something else ({'; '.join(faults)}); "
                "run `dvc repro cache_logits`"
            )
        self.folder, self.header = folder, expected
        self.shards = sorted(folder.glob("shard-*.arrow"))
        for path in self.shards:
            if fault := shard_fault(path):
                raise CacheError(f"{path}: {fault}; run `dvc repro -f cache_logits`, which makes only this shard again")
        self._open()
        if len(self) != views:
            raise CacheError(f"{folder}: holds {len(self)} of {views} views; run `dvc repro cache_logits` to finish it")

    def _open(self) -> None:
        self._columns = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in self.shards]
        self._places: dict[tuple[str, bool, int], tuple[int, int]] = {}
        for number, table in enumerate(self._columns):
            keys = zip(*(table[name].to_pylist() for name in ("image", "closing", "view")), strict=True)
            self._places.update({key: (number, row) for row, key in enumerate(keys)})

    def __getstate__(self) -> dict[str, Any]:
        """Only what a loader process needs to map the shards itself."""
        return {"folder": self.folder, "header": self.header, "shards": self.shards}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def bytes(self) -> int:
        """Size of all shards on disk."""
        return sum(path.stat().st_size for path in self.shards)

    def record(self, image: str, view: View) -> TeacherRecord:
        """The teacher's answer to a view of a picture.

        Raises:
            CacheError: the cache does not hold that view.
        """
        place = self._places.get((image, view.closing, view.number))
        if place is None:
            raise CacheError(
                f"{self.folder}: no answer for picture {image[:12]} and {view}; run `dvc repro cache_logits`"
            )
        table, row = self._columns[place[0]], place[1]
        anchors = np.frombuffer(table["anchors"][row].as_buffer(), np.int32)
        logits = np.frombuffer(table["class_logits"][row].as_buffer(), np.float16)
        bins = unpack_bins(table["box_bins"][row].as_buffer(), self.header)
        return TeacherRecord(
            pixel_hash=table["pixel_hash"][row].as_py(),
            anchors=anchors,
            class_logits=logits.reshape(len(anchors), len(self.header.classes)),
            box_bins=bins.reshape(len(anchors), 4, self.header.bins),
        )


def pack_bins(bins: NDArray[np.floating[Any]], header: CacheHeader) -> bytes:
    """Box outputs of shape (n, 4, bins) as stored bytes.

    Distances are kept as they are; bins relative to each side's largest, which leaves their distribution the same.
    """
    if header.bins == 1:
        return bytes(bins.astype(np.float16).data)
    relative = bins - bins.max(axis=-1, keepdims=True)
    if header.box_bins == "int8":
        relative = np.clip(np.rint(relative / INT8_STEP), -128, 0)
    return bytes(relative.astype(np.dtype(header.box_bins)).data)


def unpack_bins(stored: Any, header: CacheHeader) -> NDArray[np.floating[Any]]:
    """Stored bytes as a flat array of box outputs."""
    if header.bins > 1 and header.box_bins == "int8":
        return np.frombuffer(stored, np.int8).astype(np.float32) * np.float32(INT8_STEP)
    return np.frombuffer(stored, np.float16)


def _row(key: ViewOfImage, record: TeacherRecord, header: CacheHeader) -> dict[str, Any]:
    return {
        "image": key.image,
        "closing": key.view.closing,
        "view": key.view.number,
        "pixel_hash": record.pixel_hash,
        "anchors": record.anchors.astype(np.int32).tobytes(),
        "class_logits": record.class_logits.astype(np.float16).tobytes(),
        "box_bins": pack_bins(record.box_bins, header),
    }
