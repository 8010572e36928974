"""What the place of a picture file says: its id, its board, and the split its folder declares."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from kd_steps.core.data.source import SourceSplit

PATTERN_KEY = "params.yaml: prepare.splits.group_pattern"
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
SPLIT_FOLDERS: dict[str, SourceSplit] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "defect_free": "defect_free",
}


def picture_ids(paths: Sequence[str]) -> list[str]:
    """Short unique ids for relative picture paths: the stem; where two stems agree, the folders before it too.

    Ids have only letters, digits, ``-`` and ``_``. Two paths that still agree get the same id; `prepare` refuses it.
    """
    stems = [_slug(PurePosixPath(path).stem) for path in paths]
    count = Counter(stems)
    whole = [_slug(str(PurePosixPath(path).with_suffix(""))) for path in paths]
    ids = [stem if count[stem] == 1 else full for stem, full in zip(stems, whole, strict=True)]
    repeated = Counter(ids)
    return [
        name if repeated[name] == 1 else f"{name}-{PurePosixPath(path).suffix[1:].lower()}"
        for name, path in zip(ids, paths, strict=True)
    ]


def board_of(path: str, pattern: str | None) -> str:
    """The board that a picture was cut from.

    Args:
        path: relative path below the folder of pictures.
        pattern: regular expression on the file name, whose first group is the board; None: the picture's folder (split
            folders and ``images`` don't count; a picture directly in the folder is a board of its own).

    Raises:
        ValueError: the pattern has no group or does not match the file name.
    """
    place = PurePosixPath(path)
    if pattern is None:
        folders = [part for part in place.parts[:-1] if part.lower() not in SPLIT_FOLDERS and part != "images"]
        return "/".join(folders) or str(place.with_suffix(""))
    found = named_board(place.name, pattern)
    if found is None:
        raise ValueError(
            f"{path}: {PATTERN_KEY} {pattern!r} does not match the file name; mend the pattern or rename the file"
        )
    return found


def named_board(name: str, pattern: str) -> str | None:
    """The board that the first group of a regular expression finds in a file name; None where it finds none.

    Raises:
        ValueError: the pattern is not a regular expression, or has no group.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{PATTERN_KEY}: not a regular expression: {error}") from error
    if not expression.groups:
        raise ValueError(
            f"{PATTERN_KEY}: {pattern!r} has no group; put parentheses around the board's part of the file name"
        )
    found = expression.search(name)
    return None if found is None else found.group(1)


def split_of(path: str) -> SourceSplit | None:
    """The split that a folder in a relative path names (train, val, valid, test, defect_free), or None."""
    named = [SPLIT_FOLDERS[part.lower()] for part in PurePosixPath(path).parts[:-1] if part.lower() in SPLIT_FOLDERS]
    return named[0] if named else None


def told_files(paths: Sequence[str], limit: int = 5) -> str:
    """The first few of many files, for a message."""
    rest = f" and {len(paths) - limit} more" if len(paths) > limit else ""
    return ", ".join(paths[:limit]) + rest


def told_size(width: object, height: object) -> tuple[int, int] | None:
    """Width and height in px as an annotation tells them; None where it tells none (tools write 0 then)."""
    try:
        size = int(str(width)), int(str(height))
    except ValueError:
        return None
    return size if min(size) > 0 else None


def _slug(text: str) -> str:
    """A name of plain letters; where others were lost in it, a few digits tell it from names that lost others."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")
    lost = any(not character.isascii() for character in text)
    digits = hashlib.sha256(text.encode()).hexdigest()[:8] if lost else ""
    return "-".join(part for part in (plain, digits) if part) or "picture"
