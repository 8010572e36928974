"""A shard of the teacher cache: an Arrow IPC file that says where it belongs, and a seal of its bytes beside it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kd_steps.adapters.files import atomic_path, sha256_of
from kd_steps.core.cache.header import CacheHeader
from kd_steps.core.cache.keys import ViewOfImage

if TYPE_CHECKING:  # it loads torch, without which a finished cache is handed over
    from kd_steps.core.cache.rows import AnsweredView

SUFFIX, SEAL_SUFFIX = ".arrow", ".sha256"
BATCH_ROWS = 16  # of an Arrow batch: what writing holds in memory, and by which reading finds a row
CODEC = "zstd"  # boards shrink tenfold and more, attention maps by half; it unpacks faster than PNG
PLACE = b"retort.place"  # of the schema's metadata
UNREADABLE = (OSError, pa.ArrowException)  # what Arrow raises at damaged bytes

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("closing", pa.bool_()),
        ("view", pa.uint16()),
        ("pixel_hash", pa.uint64()),
        ("anchors", pa.binary()),  # int32, (n,)
        ("class_logits", pa.binary()),  # float16, (n, classes)
        ("box_bins", pa.binary()),  # kd_steps.core.cache.quantise, (n, 4, bins)
        ("one2one_anchors", pa.binary()),  # the same of the one-to-one branch, empty where there is none
        ("one2one_logits", pa.binary()),
        ("one2one_bins", pa.binary()),
        ("attention", pa.binary()),  # uint8, (cells,), compressed
        ("pooled", pa.binary()),  # float16, (channels,)
        ("vector_rows", pa.binary()),  # int32, (k,)
        ("vectors", pa.binary()),  # kd_steps.core.cache.quantise, by level
        ("pixels", pa.binary()),  # uint8, (3, height, width), compressed
        ("labels", pa.binary()),  # float32, (objects, 5): class, centre, width and height as shares of the view
    ]
)


@dataclass(frozen=True)
class ShardPlace:
    """Where a shard belongs.

    Attributes:
        name: of its file, without the ending.
        first: place of its first picture among its view's.
        count: pictures.
        answers_digest: of the header: what its answers were made from.
        precision: number format of the teacher's forward pass.
    """

    name: str
    first: int
    count: int
    answers_digest: str
    precision: str


def write_shard(
    path: Path, place: ShardPlace, header: CacheHeader, answered: Iterator[tuple[ViewOfImage, AnsweredView]]
) -> None:
    """Write a shard, then its seal; no more than a batch of rows is held in memory."""
    schema = SCHEMA.with_metadata({PLACE: json.dumps(asdict(place))})
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
        while rows := [_row(key, view, header) for key, view in itertools.islice(answered, BATCH_ROWS)]:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
    with atomic_path(seal_of(path)) as temporary:
        temporary.write_bytes(_seal(path))


def seal_of(path: Path) -> Path:
    """The file beside a shard that tells its digest, as ``sha256sum --check`` reads it."""
    return path.with_suffix(SEAL_SUFFIX)


def _seal(path: Path) -> bytes:
    return f"{sha256_of(path)}  {path.name}\n".encode()


def shard_fault(path: Path) -> str | None:
    """What is wrong with a shard's bytes, or None; reads all of them."""
    seal = seal_of(path)
    if not path.exists() or not seal.exists():
        return "is missing or was not finished"
    return None if seal.read_bytes() == _seal(path) else f"does not have the bytes that {seal.name} tells"


def open_shard(path: Path) -> Any:
    """A shard, memory-mapped, as a reader of its batches."""
    return pa.ipc.open_file(pa.memory_map(str(path)))


def shard_place(path: Path) -> ShardPlace | None:
    """Where a shard says it belongs; None where it cannot be read, or an earlier version wrote it."""
    try:
        return ShardPlace(**json.loads(open_shard(path).schema.metadata[PLACE]))
    except (*UNREADABLE, TypeError, KeyError, ValueError):
        return None


def column_reader(rows: Any, row: int, header: CacheHeader) -> Callable[[str], Any]:
    """Gives the columns of a row of a batch; those that are not compressed, without copying them."""
    sizes = _sizes(header)

    def column(name: str) -> Any:
        scalar = rows[name][row]
        if name == "pixel_hash":
            return scalar.as_py()
        stored = scalar.as_buffer()
        return pa.decompress(stored, sizes[name], codec=CODEC) if name in sizes and stored.size else stored

    return column


def _row(key: ViewOfImage, answered: AnsweredView, header: CacheHeader) -> dict[str, Any]:
    from kd_steps.core.cache.rows import pack_row

    packed = pack_row(answered, header)
    squeezed = {n: pa.compress(packed[n], codec=CODEC, asbytes=True) for n in _sizes(header) if packed[n]}
    return {"image": key.image, "closing": key.view.closing, "view": key.view.number, **packed, **squeezed}


def _sizes(header: CacheHeader) -> dict[str, int]:
    """The columns that are compressed, and their bytes before."""
    return {"pixels": header.pixel_bytes, "attention": sum(header.cells)}
