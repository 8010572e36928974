"""Which pictures a YOLO folder has, in which splits, and what their places say of the boards they show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kd_steps.adapters.files import files_below, read_text
from kd_steps.core.data.naming import PICTURE_SUFFIXES, split_of
from kd_steps.core.data.source import SourceSplit

KEYS: tuple[tuple[str, SourceSplit], ...] = (
    ("train", "train"),
    ("val", "val"),
    ("test", "test"),
    ("defect_free", "defect_free"),
)


class Listed(NamedTuple):
    """A picture, its split where one is declared, and its place: a relative path that says which board it shows."""

    path: Path
    split: SourceSplit | None
    place: str


def declared_pictures(config: dict[str, Any], config_path: Path) -> list[Listed]:
    """The pictures of the splits that ``data.yaml`` names.

    Args:
        config: what ``data.yaml`` says.
        config_path: where it lies.

    Raises:
        FileNotFoundError: a split's folder or list, or a picture in a list, is missing.
        ValueError: it names a picture in two splits.
    """
    listed: list[tuple[Path, SourceSplit, str | None]] = []
    keys: dict[str, str] = {}
    for key, split, root, alone in _entries(config, config_path):
        for path in files_below(root, PICTURE_SUFFIXES) if root.is_dir() else _listed_in(root):
            other = keys.setdefault(_lexical(path), key)
            if other != key:
                raise ValueError(
                    f"{config_path}: {path} stands under '{other}' and under '{key}'; give each split pictures of its "
                    "own, or delete both keys and let Retort cut"
                )
            # A split's own folder is no board, whatever its name; where a split has several, they may be boards.
            own = alone and root.is_dir()
            listed.append((path, split, f"{split}/{_place(root, path)}" if own else _below(config_path.parent, path)))
    elsewhere = [_lexical(path.parent) for path, _, place in listed if place is None]
    common = Path(os.path.commonpath(elsewhere)) if elsewhere else Path()
    return [Listed(path, split, place or _place(common, path)) for path, split, place in listed]


def found_pictures(folder: Path) -> list[Listed]:
    """The pictures below a folder, with the splits that its folders are named after."""
    places = [(path, path.relative_to(folder).as_posix()) for path in files_below(folder, PICTURE_SUFFIXES)]
    return [Listed(path, split_of(place), place) for path, place in places]


def _entries(config: dict[str, Any], config_path: Path) -> Iterator[tuple[str, SourceSplit, Path, bool]]:
    """Key, split, folder or list, and whether the split has no other entry."""
    for key, split in KEYS:
        value = config.get(key) or []
        entries = value if isinstance(value, list) else [value]
        for entry in entries:
            yield key, split, _resolve(str(entry), key, config, config_path), len(entries) == 1


def _resolve(entry: str, key: str, config: dict[str, Any], config_path: Path) -> Path:
    """A split's folder or list. Exports write ``../train/images`` for a folder beside ``data.yaml``: both are tried."""
    here = config_path.parent
    roots = [here / str(config.get("path") or ""), here]
    for root in roots:
        for name in (entry, entry.removeprefix("../")):
            if (root / name).exists():
                return root / name
    raise FileNotFoundError(f"{config_path}: {key}: {roots[0] / entry} does not exist; mend the path or delete the key")


def _listed_in(listing: Path) -> Iterator[Path]:
    for number, line in enumerate(read_text(listing).splitlines(), start=1):
        if not line.strip():
            continue
        path = listing.parent / line.strip()
        if not path.is_file():
            raise FileNotFoundError(f"{listing}, line {number}: {path} does not exist; restore it or delete the line")
        yield path


def _below(folder: Path, path: Path) -> str | None:
    """The path relative to the folder, posix; None where it is not below it."""
    place = _place(folder, path)
    return None if place.startswith("..") else place


def _lexical(path: Path) -> str:
    """The absolute path without ``..``, its links as they stand."""
    return os.path.normpath(path.absolute())


def _place(folder: Path, path: Path) -> str:
    """The path relative to the folder, posix. Links are taken as they stand: they lie where their user put them."""
    return Path(os.path.relpath(path, folder)).as_posix()
