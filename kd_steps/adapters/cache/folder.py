"""The folder of a teacher cache: which cache it holds, and what of it another one may keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_steps.adapters.cache.shards import SUFFIX, shard_place
from kd_steps.adapters.files import write_json
from kd_steps.artifacts import OtherVersionError, paths, read_json, require_version
from kd_steps.core.cache.header import VIEW_COUNTS, CacheHeader, answers_digest, as_today

HEADER = paths.CACHE_HEADER.name
SCHEMA = 1  # which the headers of earlier releases are of, too, that do not say so
SHARDS_OF = "answers_digest"  # in the header's file: what its shards say they are of


class CacheError(ValueError):
    """The cache cannot be used; the message names the file or the field, and the mend."""


def filling(folder: Path) -> str:
    """The command that fills a cache, as far as DVC sees a change."""
    return f"`dvc repro {_stage(folder)}`"


def repairing(folder: Path) -> str:
    """The command that makes again what is not whole in a cache: DVC does not see a bit that a disk has flipped."""
    return f"`dvc repro -f -s {_stage(folder)}`"


def _stage(folder: Path) -> str:
    return f"assistant@{folder.name}" if folder.parent.name == paths.ASSISTANT_CACHES.name else "cache_logits"


def open_for_writing(folder: Path, header: CacheHeader, renamed_from: Sequence[str] = ()) -> str:
    """Ready a folder for a cache with this header; finished shards of the same cache are kept.

    So are those of a cache that differs in the number of its views alone: another schedule asks only for what is new.
    So are those of the same teacher when its classes had other names: an answer has columns, not names.
    What a shard was made from it says itself, so that a damaged header costs no answers.

    Args:
        folder: of the cache.
        header: of the cache that it is to be.
        renamed_from: sha256 of the weight files that are the teacher's but for the names of its classes.

    Returns:
        What was found: ``new``, ``resumed``, or what differs in the cache that had to go.

    Raises:
        CacheError: another release wrote the header; nothing is removed.
    """
    for torn in folder.glob(".shard-*"):  # of a kill, perhaps at a time with more shards
        torn.unlink()
    note, shards = folder / HEADER, list(folder.glob(f"shard-*{SUFFIX}"))
    found = "resumed" if note.exists() or shards else "new"
    stored, digest = _readable_header(note)
    if found == "resumed" and (differences := header.differences(stored, _may_differ(header, stored, renamed_from))):
        digest = header.answers_digest
        if any(place.answers_digest == digest for path in shards if (place := shard_place(path))):
            found = f"resumed; {HEADER} was damaged and is written anew"
        else:
            found = f"another cache stood here ({'; '.join(differences) if stored else 'its header is damaged'})"
            for old in shards:
                old.unlink()
    written = {**header.to_dict(), SHARDS_OF: digest or header.answers_digest}
    if not note.exists() or _json(note) not in (written, {"schema": SCHEMA, **written}):  # what is right stays as it is
        write_json(note, {"schema": SCHEMA, **written})
    return found


def _may_differ(header: CacheHeader, stored: Mapping[str, Any], renamed_from: Sequence[str]) -> tuple[str, ...]:
    """The fields in which a stored header may differ while its answers are those that are asked for."""
    renamed = stored.get("teacher_sha256") in renamed_from and len(stored.get("classes", ())) == len(header.classes)
    return (*VIEW_COUNTS, "teacher_sha256", "classes") if renamed else VIEW_COUNTS


def _readable_header(note: Path) -> tuple[dict[str, Any], str | None]:
    """A stored header, and the digest that its shards carry; nothing where there is none or it cannot be read."""
    found = _json(note)
    if found:
        mend = f"use the release of Retort that wrote it, or delete it and run {repairing(note.parent)}"
        try:
            require_version(note, found, "a cache's header", SCHEMA, SCHEMA, mend)
        except OtherVersionError as error:
            raise CacheError(str(error)) from error
    found.pop("schema", None)
    digest = found.pop(SHARDS_OF, None)
    return as_today(found), digest or (answers_digest(found) if found else None)


def _json(note: Path) -> dict[str, Any]:
    try:
        found = read_json(note)
    except (ValueError, FileNotFoundError):
        return {}
    return found if isinstance(found, dict) else {}


def stored_header(folder: Path) -> tuple[dict[str, Any], str]:
    """The header of a cache, its fields named as today's are, and the digest that its shards carry.

    Raises:
        CacheError: there is no cache, or its header cannot be read or is of another version.
    """
    note = folder / HEADER
    if not note.exists():
        raise CacheError(f"{folder}: no teacher cache; run {filling(folder)}")
    found, digest = _readable_header(note)
    if digest is None:
        raise CacheError(f"{note}: damaged; run {repairing(folder)}, which writes it again and asks no answer twice")
    return found, digest
