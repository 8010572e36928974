"""YOLO detection folders as people have them: a ``data.yaml``, pictures, and one label file a picture."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from kd_steps.adapters.files import read_text, text_beside
from kd_steps.adapters.sources.yolo_listing import KEYS, declared_pictures, found_pictures
from kd_steps.core.data.boxes import yolo_to_xyxy
from kd_steps.core.data.class_names import names_by_id
from kd_steps.core.data.naming import PICTURE_SUFFIXES, board_of, picture_ids, told_files
from kd_steps.core.data.source import SourceImage, SourceSet
from kd_steps.core.data.yolo_labels import parse_yolo

EXIF_ORIENTATION = 0x0112
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
NOT_LABELS = frozenset({"classes.txt", "notes.txt", "readme.txt", "requirements.txt"})


def load_yolo(folder: Path, group_pattern: str | None) -> SourceSet:
    """Read a YOLO folder.

    The splits are those of ``data.yaml`` (each a folder, a list of folders, or a text file of paths; ``defect_free``
    may stand beside train, val and test); without such keys, folders of these names; without those, Retort cuts all. A
    picture's labels stand in the ``labels`` folder beside its ``images`` folder, or next to it.

    Args:
        folder: holds ``data.yaml``.
        group_pattern: see :func:`kd_steps.core.data.naming.board_of`.

    Raises:
        FileNotFoundError: the folder, its ``data.yaml`` or a split's folder is missing.
        ValueError: ``data.yaml`` cannot be used.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; set prepare.source.yolo.path to the folder with data.yaml")
    config_path = _find_config(folder)
    config = _read_config(config_path)
    names = _class_names(config, config_path)
    listed = declared_pictures(config, config_path) or found_pictures(folder)
    if not listed:
        raise FileNotFoundError(f"{folder}: no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}) in it")
    images: list[SourceImage] = []
    faults: list[str] = []
    unlabelled: list[str] = []
    for (path, split, place), image_id in zip(listed, picture_ids([one.place for one in listed]), strict=True):
        label = label_path(path)
        if not label.is_file():
            unlabelled.append(str(path))
            continue
        try:
            board = board_of(place, group_pattern)
            boxes, class_names, told = _read_labels(label, path, names)
        except ValueError as error:
            faults.append(str(error))
            continue
        faults += told
        images.append(
            SourceImage(
                image_id=image_id,
                group=board,
                split=split,
                suffix=path.suffix.lower(),
                read=path.read_bytes,
                boxes_xyxy_px=boxes,
                class_names=class_names,
                origin=str(label),
                picture=str(path),
            )
        )
    if unlabelled:
        faults.append(
            f"{len(unlabelled)} pictures have no label file: {told_files(unlabelled)}; add it (an empty .txt file says "
            "'no objects'), or delete the picture"
        )
    warnings = []
    if any(one.split for one in listed) and "defect_free" not in config and (folder / "images/defect_free").is_dir():
        warnings.append(f"{folder / 'images/defect_free'} is left alone: {config_path} has no key 'defect_free' for it")
    return SourceSet(tuple(images), tuple(names), tuple(warnings), (*faults, *_orphans([one.path for one in listed])))


def label_path(picture: Path) -> Path:
    """The label file of a picture: ``labels`` in place of the last ``images`` in its path, or else next to it."""
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            swapped = text_beside(Path(*parts[:i], "labels", *parts[i + 1 :]))
            beside = text_beside(picture)
            return beside if beside.is_file() and not swapped.is_file() else swapped
    return text_beside(picture)


def _find_config(folder: Path) -> Path:
    found = [path for name in ("data.yaml", "data.yml", "dataset.yaml") if (path := folder / name).is_file()]
    found = found or sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if not found:
        raise FileNotFoundError(f"{folder / 'data.yaml'}: no such file; this one would do:\n\n{_suggestion(folder)}")
    return found[0]


def _suggestion(folder: Path) -> str:
    """A ``data.yaml`` for what stands in the folder: its split folders, and names for the ids its labels use."""
    listed = found_pictures(folder)
    pictures, lines = [one.path for one in listed], []
    for key, split in KEYS:
        inside = sorted({PurePosixPath(one.place).parent.as_posix() for one in listed if one.split == split})
        if inside:
            lines.append(f"{key}: {inside[0] if len(inside) == 1 else inside}")
    listing = folder / "classes.txt"
    if listing.is_file():
        names = [line.strip() for line in read_text(listing).splitlines() if line.strip()]
    else:
        ids = {int(word) for path in pictures for word in _first_words(label_path(path)) if word.isdigit()}
        names = [f"class_{i}  # write its name" for i in range(max(ids, default=0) + 1)]
    return "\n".join([*lines, "names:", *(f"  {i}: {name}" for i, name in enumerate(names))])


def _first_words(label: Path) -> list[str]:
    if not label.is_file():
        return []
    return [
        line.split()[0] for line in label.read_text(encoding="utf-8", errors="replace").splitlines() if line.split()
    ]


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(config, dict) or "names" not in config:
        raise ValueError(f"{path}: the key 'names' is missing; list the class names under it, by id")
    return config


def _class_names(config: dict[str, Any], path: Path) -> list[str]:
    try:
        names = names_by_id(config["names"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if "nc" in config and config["nc"] != len(names):
        raise ValueError(f"{path}: nc is {config['nc']}, but {len(names)} classes are named; mend one of them")
    return names


def _read_labels(
    label: Path, picture: Path, names: list[str]
) -> tuple[NDArray[np.float64], tuple[str, ...], list[str]]:
    """Corners in pixels (n, 4), class names, and the faults of one label file."""
    labels, faults = parse_yolo(read_text(label), len(names))
    told = [f"{label}, line {fault.line}: {fault.message}" for fault in faults]
    width_px, height_px = _size_px(picture)
    boxes = yolo_to_xyxy(labels.boxes_cxcywh, width_px, height_px)
    return boxes, tuple(names[i] for i in labels.class_ids.tolist()), told


def _size_px(picture: Path) -> tuple[int, int]:
    """Width and height as displayed, read from the header alone."""
    try:
        with Image.open(picture) as header:
            width_px, height_px = header.size
            turned = header.format == "TIFF"  # Pillow has turned the size of these already
            sideways = not turned and header.getexif().get(EXIF_ORIENTATION) in SIDEWAYS
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{picture}: cannot be read as a picture ({error}); copy it again from its source") from error
    return (height_px, width_px) if sideways else (width_px, height_px)


def _orphans(pictures: list[Path]) -> list[str]:
    """A fault for the label files in the pictures' label folders that have no picture."""
    wanted = {label_path(path) for path in pictures}
    folders = sorted({label.parent for label in wanted})
    found = [p for folder in folders if folder.is_dir() for p in sorted(folder.iterdir()) if p.suffix.lower() == ".txt"]
    orphans = [str(path) for path in found if path not in wanted and path.name.lower() not in NOT_LABELS]
    if not orphans:
        return []
    return [
        f"{len(orphans)} label files have no picture: {told_files(orphans)}; restore the picture, or delete the file"
    ]
