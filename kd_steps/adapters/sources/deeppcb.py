"""DeepPCB (arXiv 1902.06197): pairs of a defective board picture and its aligned defect-free template."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kd_steps.core.data.source import SourceImage, SourceSet, SourceSplit

CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")  # the authors' types 1 to 6
LISTS: dict[str, SourceSplit] = {"trainval.txt": "train", "test.txt": "test"}
LAYOUT = "the folder must hold PCBData/ with trainval.txt, test.txt and group*/ as the authors publish it"


def load_deeppcb(folder: Path, split_by: Literal["authors", "group"]) -> SourceSet:
    """Read the authors' layout.

    Args:
        folder: holds ``PCBData/``, or is it.
        split_by: ``authors`` keeps their test list; its boards are also in their training list. ``group`` leaves the
            cut to Retort: a board is on one side only.

    Returns:
        The defective pictures, each with its template; and the templates of the test list (of all pictures, if
        Retort cuts) as defect-free boards.

    Raises:
        FileNotFoundError: the folder or a list is missing.
    """
    root = folder / "PCBData" if (folder / "PCBData").is_dir() else folder
    images: list[SourceImage] = []
    templates: list[SourceImage] = []
    faults: list[str] = []
    for list_name, split in LISTS.items():
        listing = root / list_name
        if not listing.is_file():
            raise FileNotFoundError(f"{listing}: no such file; {LAYOUT}")
        for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                pair = _read_pair(root, line, split if split_by == "authors" else None)
            except ValueError as error:
                faults.append(f"{listing}, line {number}: {error}")
                continue
            images.append(pair[0])
            faults += pair[2]
            if split == "test" or split_by == "group":
                templates.append(pair[1])
    return SourceSet((*images, *templates), CLASSES, (), tuple(faults))


def _read_pair(root: Path, line: str, split: SourceSplit | None) -> tuple[SourceImage, SourceImage, list[str]]:
    """The picture and the template that one line of a list names, and the faults of its annotation file."""
    words = line.split()
    if len(words) != 2:
        raise ValueError(f"expected 'picture annotation', found {line!r}")
    picture = root / f"{words[0].removesuffix('.jpg')}_test.jpg"
    template = root / f"{words[0].removesuffix('.jpg')}_temp.jpg"
    annotation = root / words[1]
    missing = [str(path) for path in (picture, template, annotation) if not path.is_file()]
    if missing:
        raise ValueError(f"names {', '.join(missing)}, which does not exist; restore it, or delete the line")
    boxes, names, faults = parse_annotation(annotation.read_text(encoding="utf-8"), str(annotation))
    stem, group = annotation.stem, picture.parent.name
    defective = SourceImage(
        image_id=stem,
        group=group,
        split=split,
        suffix=".jpg",
        read=picture.read_bytes,
        boxes_xyxy_px=boxes,
        class_names=names,
        origin=str(annotation),
        template=template.read_bytes,
        picture=str(picture),
    )
    defect_free = SourceImage(
        image_id=f"{stem}_temp",
        group=group,
        split="defect_free",
        suffix=".jpg",
        read=template.read_bytes,
        boxes_xyxy_px=np.zeros((0, 4)),
        class_names=(),
        origin=str(template),
    )
    return defective, defect_free, faults


def parse_annotation(text: str, origin: str) -> tuple[NDArray[np.float64], tuple[str, ...], list[str]]:
    """Lines of ``x1 y1 x2 y2 type`` → corners in pixels (n, 4), class names, and faults that name the line."""
    boxes: list[list[float]] = []
    names: list[str] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = [int(word) for word in line.replace(",", " ").split()]
        except ValueError:
            values = []
        if len(values) != 5 or not 1 <= values[4] <= len(CLASSES):
            faults.append(f"{origin}, line {number}: expected 'x1 y1 x2 y2 type' with type 1 to 6, found {line!r}")
            continue
        boxes.append([float(value) for value in values[:4]])
        names.append(CLASSES[values[4] - 1])
    return np.array(boxes, dtype=np.float64).reshape(-1, 4), tuple(names), faults
