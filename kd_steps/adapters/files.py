"""The file system: atomic writes, digests and folders that survive a kill."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from kd_steps.artifacts import Document

RANDOM_SIGNS = 8  # of tempfile's names


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place, synced, when the block ends without an error.

    What a kill left of an earlier try goes first: in a folder that DVC keeps, it would become part of the output.
    A path has one writer at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for torn in path.parent.glob(f".{escape(path.name)}.{'?' * RANDOM_SIGNS}{escape(path.suffix)}"):
        torn.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Write JSON atomically, keys in the order given, a newline at the end."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_document(path: Path, document: Document) -> None:
    """Write a document of ours atomically, as JSON."""
    write_json(path, document.model_dump(mode="json", by_alias=True))


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a folder and of all below it with one of these suffixes (lower case), by path.

    Linked folders count, too; one that leads back to a folder above it is not entered again.
    """
    found, open_folders = [], [(folder, frozenset[Path]())]
    while open_folders:
        place, above = open_folders.pop()
        here = place.resolve()
        if here in above or not place.is_dir():
            continue
        for path in place.iterdir():
            if path.is_dir():
                open_folders.append((path, above | {here}))
            elif path.suffix.lower() in suffixes and path.is_file():
                found.append(path)
    return sorted(found)


def text_beside(path: Path) -> Path:
    """The text file of a picture's name, ``.txt``, or ``.TXT`` where only that is there."""
    small, capital = path.with_suffix(".txt"), path.with_suffix(".TXT")
    return capital if capital.is_file() and not small.is_file() else small


def read_text(path: Path) -> str:
    """A text file, with or without a byte order mark.

    Raises:
        ValueError: it is not text; names the file.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error}); save it again as such") from error


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for one writing process; the hold ends with the process, however that ends.

    A network file system may not lock folders: there, it is for the user to start one process only.

    Raises:
        ValueError: another process is writing there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            if not _locked(handle):
                raise ValueError(f"{folder}: another process is writing there; wait for it, or stop it and run again")
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def swap_folder(finished: Path, target: Path) -> None:
    """Put a finished folder in the place of ``target``; the old one stays whole until the new one is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if finished.stat().st_dev != target.parent.stat().st_dev:  # a folder cannot be renamed into another file system
        near = target.with_name(f".{target.name}.arriving")
        shutil.rmtree(near, ignore_errors=True)
        finished = shutil.copytree(finished, near)
    old = finished.with_name(f"{finished.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    finished.replace(target)
    shutil.rmtree(old, ignore_errors=True)
