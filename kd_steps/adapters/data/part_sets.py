"""New-part sets on disk: every folder below ``data/new_parts`` with a ``data.yaml``, in the YOLO layout."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from kd_steps.adapters.files import files_below, read_text, text_beside
from kd_steps.core.data.class_names import names_by_id
from kd_steps.core.data.ledger import Ledger, by_number, names_in_service
from kd_steps.core.data.listed_source import unlisted_message
from kd_steps.core.data.naming import PICTURE_SUFFIXES

WATCHED = ("held_out", "line")  # what dvc.yaml names below data/new_parts


@dataclass(frozen=True)
class PartPicture:
    """A picture of a set; ``label`` is where its label file belongs, whether or not it is there."""

    path: Path
    label: Path


@dataclass(frozen=True)
class PartSet:
    """A set of labelled pictures of new parts.

    Attributes:
        folder: holds ``data.yaml``, ``images/`` and ``labels/``.
        names: class names, in the order of the numbers in the label files; present ones, where a class was renamed.
        withdrawn: places in ``names`` of classes that are out of service: their objects count for nothing.
        pictures: everything below ``images/``, by path.
        stray_labels: label files without a picture.
        fault: why ``data.yaml`` or the folder cannot be used, with the mend; None if it can.
    """

    folder: Path
    names: tuple[str, ...]
    pictures: tuple[PartPicture, ...]
    stray_labels: tuple[Path, ...]
    fault: str | None
    withdrawn: tuple[int, ...] = ()

    @property
    def classes(self) -> list[str]:
        """Its classes that are in service."""
        return [name for place, name in enumerate(self.names) if place not in self.withdrawn]


def read_part_sets(root: Path, ledger: Ledger, ledger_file: str) -> list[PartSet]:
    """Every set below ``root``, by path. Pictures that belong to none are told as a faulty set of their folder.

    So are a linked folder and a set outside the folders that `validate` and `few_shot` depend on: DVC would not see
    them come, change or go. A set that names an unlisted class is faulty, too.

    Args:
        root: the folder of all sets.
        ledger: of the product's classes.
        ledger_file: where it lies, for messages.
    """
    folders = sorted({path.parent for path in files_below(root, {".yaml"}) if path.name == "data.yaml"})
    pictures = files_below(root, PICTURE_SUFFIXES)
    homeless = sorted({p.parent for p in pictures if not any(p.is_relative_to(f / "images") for f in folders)})
    seen = [root / name for name in WATCHED]
    links = sorted(path for path in root.rglob("*") if path.is_symlink() and path.is_dir())
    sets = [_read(f) if any(f.is_relative_to(s) for s in seen) else _elsewhere(f, root) for f in folders]
    sets = [_listed(part, ledger, ledger_file) for part in sets]
    return [*sets, *(_homeless(folder) for folder in homeless), *(_linked(path) for path in links)]


def new_classes(sets: Sequence[PartSet], known: Collection[str], ledger: Ledger) -> tuple[str, ...]:
    """The classes that pictures of new parts may show and a network does not know, in the order of their numbers.

    Args:
        sets: as :func:`read_part_sets` gives them.
        known: class names of the network.
        ledger: of the product's classes.
    """
    named = {name for part in sets if part.pictures and not part.fault for name in part.classes}
    return tuple(by_number(named - set(known), ledger))


def _read(folder: Path) -> PartSet:
    pictures = tuple(
        PartPicture(path, text_beside(folder / "labels" / path.relative_to(folder / "images")))
        for path in files_below(folder / "images", PICTURE_SUFFIXES)
    )
    stray = set(files_below(folder / "labels", {".txt"})) - {picture.label for picture in pictures}
    names, fault = _names(folder / "data.yaml")
    return PartSet(folder, names, pictures, tuple(sorted(stray)), fault)


def _listed(part: PartSet, ledger: Ledger, ledger_file: str) -> PartSet:
    """A set under the present names of its classes; a faulty one where it names an unlisted class."""
    found = names_in_service(part.names, ledger)
    fault = unlisted_message("data.yaml", found.unlisted, ledger_file) if found.unlisted else part.fault
    return replace(part, names=found.names, withdrawn=found.withdrawn, fault=fault)


def _names(path: Path) -> tuple[tuple[str, ...], str | None]:
    """The class names of a ``data.yaml``, or what is wrong with it."""
    would_do = "one that would do: {train: images, val: images, names: {0: tombstone}}"
    try:
        values: Any = yaml.safe_load(read_text(path))
        return tuple(names_by_id(values.get("names") if isinstance(values, dict) else None)), None
    except (yaml.YAMLError, ValueError) as error:
        return (), f"data.yaml cannot be used ({' '.join(str(error).split())}); {would_do}"


def _elsewhere(folder: Path, root: Path) -> PartSet:
    return PartSet(
        folder, (), (), (), f"a set outside {root / 'line'}, of which no change would be seen; move it there"
    )


def _linked(folder: Path) -> PartSet:
    return PartSet(folder, (), (), (), "a link, into which DVC does not look; put the folder itself here")


def _homeless(folder: Path) -> PartSet:
    fault = (
        "pictures that belong to no set; a set is a folder with images/, labels/ and a data.yaml such as "
        "{train: images, val: images, names: {0: tombstone}}"
    )
    return PartSet(folder, (), (), (), fault)
