"""The pictures that an engine is measured on: which they are, and to which split each belongs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_steps.edge.contract import canonical_digest
from kd_steps.edge.manifest import digest_of

SPLITS = ("val", "test", "defect_free")
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class PicturesError(ValueError):
    """There is nothing to measure on; the message names the place and the mend."""


@dataclass(frozen=True)
class Picture:
    """One picture file.

    Attributes:
        name: unique among the pictures: the stem of the file.
        split: ``val``, ``test`` or ``defect_free``.
        path: the file.
        sha256: of its bytes, hex.
    """

    name: str
    split: str
    path: Path
    sha256: str


def picture(path: Path, split: str | None = None) -> Picture:
    """A picture file; without a split, the name of its folder is the split."""
    return Picture(path.stem, split or path.parent.name, path, digest_of(path).sha256)


def pictures_of(place: Path) -> list[Picture]:
    """The pictures of a folder, or of a text file with a path a line (relative to the file's folder).

    Each picture lies in a folder with the name of its split; ``data/prepared/images`` is such a place.

    Raises:
        PicturesError: none is there, two have the same name, or one lies in a folder that is no split.
        OSError: a listed picture cannot be read.
    """
    if place.is_dir():
        paths = [p for split in SPLITS for p in sorted((place / split).glob("*")) if p.suffix.lower() in SUFFIXES]
    elif place.is_file():
        lines = [line.strip() for line in place.read_text(encoding="utf-8").splitlines()]
        paths = [place.parent / line for line in lines if line]
    else:
        raise PicturesError(f"{place}: no such folder or list of pictures")
    if odd := [str(path) for path in paths if path.parent.name not in SPLITS]:
        raise PicturesError(f"{place}: {odd[0]} does not lie in a folder named {', '.join(SPLITS)}")
    if not paths:
        raise PicturesError(f"{place}: no picture in {', '.join(SPLITS)}; give a folder with these folders in it")
    if twice := [name for name, count in Counter(path.stem for path in paths).items() if count > 1]:
        raise PicturesError(f"{place}: several pictures are named {twice[0]!r}; rename all but one")
    return [picture(path) for path in paths]


def listed(pictures: Sequence[Picture]) -> list[list[str]]:
    """Name, split and sha256 of each picture, as a bundle keeps them."""
    return [[p.name, p.split, p.sha256] for p in pictures]


def pictures_digest(rows: Sequence[Sequence[Any]]) -> str:
    """sha256 (hex) of rows of :func:`listed`, whatever their order."""
    return canonical_digest(sorted([str(value) for value in row] for row in rows))
