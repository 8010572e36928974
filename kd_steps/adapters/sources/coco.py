"""COCO detection: a folder of pictures and one JSON file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from kd_steps.adapters.files import files_below, read_text
from kd_steps.core.data.naming import PICTURE_SUFFIXES, board_of, picture_ids, split_of, told_files, told_size
from kd_steps.core.data.source import SourceImage, SourceSet

Objects = list[tuple[str, list[float]]]
IDS = {"images": ("id",), "annotations": ("image_id", "category_id"), "categories": ("id",)}


def load_coco(images: Path, annotations: Path, group_pattern: str | None) -> SourceSet:
    """Read a COCO file. Folders named train, val or test in ``file_name`` declare the splits.

    Crowd regions (``iscrowd``) have no single object's box: they are skipped, and a warning counts them.

    Args:
        images: folder that ``file_name`` starts from.
        annotations: the JSON file.
        group_pattern: see :func:`kd_steps.core.data.naming.board_of`.

    Raises:
        FileNotFoundError: the folder or the file is missing.
        ValueError: not JSON, or a list is missing in it.
    """
    if not images.is_dir():
        raise FileNotFoundError(f"{images}: no such folder; set prepare.source.coco.images to the folder of pictures")
    content = _read(annotations)
    names = _class_names(content["categories"], annotations)
    objects, crowded, faults = _objects_by_image(content["annotations"], names, annotations)
    found: list[SourceImage] = []
    entries = content["images"]
    ids = picture_ids([str(entry["file_name"]) for entry in entries])
    missing: list[str] = []
    for entry, image_id in zip(entries, ids, strict=True):
        place = str(entry["file_name"])
        picture = images / place
        if not picture.is_file():
            missing.append(str(picture))
            continue
        try:
            board = board_of(place, group_pattern)
        except ValueError as error:
            faults.append(str(error))
            continue
        own = objects.get(entry["id"], [])
        found.append(
            SourceImage(
                image_id=image_id,
                group=board,
                split=split_of(place),
                suffix=picture.suffix.lower(),
                read=picture.read_bytes,
                boxes_xyxy_px=np.array([box for _, box in own], dtype=np.float64).reshape(-1, 4),
                class_names=tuple(name for name, _ in own),
                origin=f"{annotations}, image {entry['id']} ({place})",
                picture=str(picture),
                told_wh_px=told_size(entry.get("width"), entry.get("height")),
                unsure=entry["id"] in crowded,
            )
        )
    faults += _strays(images, [str(entry["file_name"]) for entry in entries], missing, annotations)
    unsure = [i.picture for i in found if i.unsure and i.split == "defect_free"]
    if unsure:
        faults.append(
            f"{annotations}: {told_files(unsure)}: a defect-free picture with a crowd region; move or mend it"
        )
    known = {entry["id"] for entry in entries}
    lost = sorted(str(image) for image in objects if image not in known)
    if lost:
        faults.append(f"{annotations}: annotations of images that 'images' does not list: ids {told_files(lost)}")
    n_crowds = sum(crowded.values())
    warnings = [f"{n_crowds} crowd regions (iscrowd) were skipped"] if n_crowds else []
    return SourceSet(tuple(found), tuple(names.values()), tuple(warnings), tuple(faults))


def _class_names(categories: list[dict[str, Any]], path: Path) -> dict[Any, str]:
    """Class names by category id, in the order of the ids.

    Raises:
        ValueError: an id or a name stands there twice, or a name is no text.
    """
    if odd := [category["name"] for category in categories if not isinstance(category["name"], str)]:
        raise ValueError(f"{path}: categories: the names {odd} are no text; put each in quotes")
    for field in ("id", "name"):
        repeated = [value for value, n in Counter(category[field] for category in categories).items() if n > 1]
        if repeated:
            raise ValueError(f"{path}: categories: {field} {repeated} stands there more than once; give each its own")
    numbers = all(isinstance(category["id"], int | float) for category in categories)
    ordered = sorted(categories, key=lambda category: category["id"] if numbers else str(category["id"]))
    return {category["id"]: category["name"] for category in ordered}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path}: no such file; set prepare.source.coco.annotations to the JSON file"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); export it again") from error
    wanted = {"images": ("id", "file_name"), "annotations": ("image_id", "category_id", "bbox")}
    wanted["categories"] = ("id", "name")
    for key, fields in wanted.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f"{path}: the list '{key}' is missing; a COCO detection file has {', '.join(wanted)}")
        for number, entry in enumerate(entries, start=1):
            absent = [field for field in fields if not isinstance(entry, dict) or field not in entry]
            if absent:
                raise ValueError(f"{path}: {key}, entry {number}: {', '.join(absent)} missing; export it again")
            odd = [field for field in IDS[key] if not isinstance(entry[field], int | float | str)]
            if odd:
                raise ValueError(f"{path}: {key}, entry {number}: {', '.join(odd)} is neither a number nor text")
    return dict(content)


def _objects_by_image(
    annotations: list[dict[str, Any]], names: dict[Any, str], path: Path
) -> tuple[dict[Any, Objects], Counter[Any], list[str]]:
    """Objects by image id (COCO's x, y, width, height → corners in pixels), skipped crowds by image id, faults."""
    objects: dict[Any, Objects] = {}
    faults: list[str] = []
    crowded: Counter[Any] = Counter()
    for number, entry in enumerate(annotations, start=1):
        told = f"{path}, annotation {entry.get('id', number)}"
        if entry.get("iscrowd"):
            crowded[entry["image_id"]] += 1
            continue
        if entry["category_id"] not in names:
            faults.append(f"{told}: category {entry['category_id']} is not in 'categories' ({sorted(names, key=str)})")
            continue
        try:
            x, y, width, height = (float(value) for value in entry["bbox"])
        except (TypeError, ValueError):
            faults.append(f"{told}: bbox needs four numbers (x, y, width, height), found {entry['bbox']!r}")
            continue
        objects.setdefault(entry["image_id"], []).append((names[entry["category_id"]], [x, y, x + width, y + height]))
    return objects, crowded, faults


def _strays(images: Path, listed: list[str], missing: list[str], path: Path) -> list[str]:
    """Faults for pictures that only the JSON or only the folder has."""
    faults = []
    if missing:
        faults.append(
            f"{path}: {len(missing)} pictures do not exist: {told_files(missing)}; restore them, or delete them from "
            "'images'"
        )
    known = {(images / name).resolve() for name in listed}
    strays = [str(p) for p in files_below(images, PICTURE_SUFFIXES) if p.resolve() not in known]
    if strays:
        faults.append(
            f"{path}: {len(strays)} pictures of {images} are not in 'images': {told_files(strays)}; list them (without "
            "annotations: no objects), or delete them"
        )
    return faults
