"""What lies in a teacher cache, read from its files alone."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kd_steps.adapters.cache.folder import HEADER, CacheError, filling, repairing, stored_header
from kd_steps.adapters.cache.shards import UNREADABLE, open_shard, shard_place
from kd_steps.core.cache.header import CacheHeader

ANCHOR_BYTES = 4


@dataclass(frozen=True)
class CacheContents:
    """What lies in a cache.

    Attributes:
        header: as it was written.
        shards: files.
        views: rows.
        views_by_precision: how many of them were answered in each number format.
        pictures: different pictures.
        anchors_mean: kept anchors a view; of a head with two branches, of the one-to-many branch.
        anchors_max: the most of a view.
        column_bytes: bytes of all views by column; ``framing``: what the files take beside them.
        bytes: of all shards.
    """

    header: dict[str, Any]
    shards: int
    views: int
    views_by_precision: dict[str, int]
    pictures: int
    anchors_mean: float
    anchors_max: int
    column_bytes: dict[str, int]
    bytes: int


def cache_contents(folder: Path) -> CacheContents:
    """Read a cache's header and measure its columns; bytes are not held to their digests here.

    Raises:
        CacheError: there is no cache, or a shard cannot be read.
    """
    header, _ = stored_header(folder)
    if header.get("answers") == "ema":
        raise CacheError(f"{folder}: empty, for distill.answers is ema: the student is its own teacher")
    if missing := [field.name for field in fields(CacheHeader) if field.name not in header]:
        raise CacheError(
            f"{folder / HEADER}: has no {', '.join(missing)}: another version of Retort wrote it; run {filling(folder)}"
        )
    shards = sorted(folder.glob("shard-*.arrow"))
    views = anchors = most = 0
    pictures: set[str] = set()
    columns: dict[str, int] = {}
    formats: dict[str, int] = {}
    for path in shards:
        precision = place.precision if (place := shard_place(path)) else "unknown"
        for batch in _batches(path):
            views += len(batch)
            formats[precision] = formats.get(precision, 0) + len(batch)
            pictures |= set(batch["image"].unique().to_pylist())
            sizes = {name: _sizes(batch[name]) for name in batch.schema.names}
            anchors += _whole(pc.sum(sizes["anchors"])) // ANCHOR_BYTES
            most = max(most, _whole(pc.max(sizes["anchors"])) // ANCHOR_BYTES)
            for name, size in sizes.items():
                columns[name] = columns.get(name, 0) + _whole(pc.sum(size))
    total = sum(path.stat().st_size for path in shards)
    return CacheContents(
        header=header,
        shards=len(shards),
        views=views,
        views_by_precision=formats,
        pictures=len(pictures),
        anchors_mean=anchors / views if views else 0.0,
        anchors_max=most,
        column_bytes={**columns, "framing": total - sum(columns.values())},
        bytes=total,
    )


def _batches(path: Path) -> list[Any]:
    try:
        reader = open_shard(path)
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]
    except UNREADABLE as error:
        mend = f"remove it and run {repairing(path.parent)}, which makes only this shard again"
        raise CacheError(f"{path}: cannot be read ({error}); {mend}") from error


def _sizes(column: Any) -> Any:
    """Bytes of each value."""
    if pa.types.is_binary(column.type) or pa.types.is_string(column.type):
        return pc.binary_length(column)
    return pa.array([max(column.type.bit_width // 8, 1)] * len(column))


def _whole(scalar: Any) -> int:
    return int(scalar.as_py() or 0)
