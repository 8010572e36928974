"""Pascal VOC: a folder of pictures and a folder of XML files, of any names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from kd_steps.adapters.files import files_below
from kd_steps.core.data.naming import PICTURE_SUFFIXES, board_of, picture_ids, split_of, told_files, told_size
from kd_steps.core.data.source import SourceImage, SourceSet

Objects = list[tuple[str, list[float]]]


def load_voc(images: Path, annotations: Path, group_pattern: str | None) -> SourceSet:
    """Read pictures and their XML files, paired by file name (and by sub-folder, where names repeat).

    Corners are taken as pixel edges, as the tools of today write them. Folders named train, val or test declare the
    splits. Classes are the object names found, in alphabetical order.

    Args:
        images: folder of pictures, sub-folders included.
        annotations: folder of XML files, sub-folders included; may be the same folder.
        group_pattern: see :func:`kd_steps.core.data.naming.board_of`.

    Raises:
        FileNotFoundError: a folder is missing or has no such files.
    """
    pictures = _files(images, PICTURE_SUFFIXES, "images", "pictures")
    xml_files = _files(annotations, frozenset({".xml"}), "annotations", "XML files")
    pairs, faults = _pair(images, pictures, annotations, xml_files)
    found: list[SourceImage] = []
    places = [picture.relative_to(images).as_posix() for picture, _ in pairs]
    for (picture, xml), place, image_id in zip(pairs, places, picture_ids(places), strict=True):
        try:
            board = board_of(place, group_pattern)
            objects, size_wh_px, told = parse_objects(xml.read_bytes(), str(xml))
        except ValueError as error:
            faults.append(str(error))
            continue
        faults += told
        found.append(
            SourceImage(
                image_id=image_id,
                group=board,
                split=split_of(place),
                suffix=picture.suffix.lower(),
                read=picture.read_bytes,
                boxes_xyxy_px=np.array([box for _, box in objects], dtype=np.float64).reshape(-1, 4),
                class_names=tuple(name for name, _ in objects),
                origin=str(xml),
                picture=str(picture),
                told_wh_px=size_wh_px,
            )
        )
    classes = sorted({name for image in found for name in image.class_names})
    return SourceSet(tuple(found), tuple(classes), (), tuple(faults))


def parse_objects(xml: bytes, origin: str) -> tuple[Objects, tuple[int, int] | None, list[str]]:
    """The objects of one annotation: name and corners ``[x1, y1, x2, y2]`` in pixels; the faults of others.

    Between them stand the picture's width and height as the annotation has them; None where it tells none.

    Raises:
        ValueError: not XML; names the line.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ValueError(f"{origin}, line {error.position[0]}: not valid XML ({error}); export it again") from error
    except (ValueError, LookupError) as error:
        raise ValueError(f"{origin}: its encoding cannot be read ({error}); save it again in UTF-8") from error
    objects: Objects = []
    faults: list[str] = []
    for number, element in enumerate(root.iter("object"), start=1):
        name = (element.findtext("name") or "").strip()
        corners = [element.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            if not name:
                raise ValueError
            objects.append((name, [float(corner or "") for corner in corners]))
        except ValueError:
            faults.append(
                f"{origin}, object {number} ('{name}'): needs a name and bndbox with the numbers xmin, ymin, xmax, "
                f"ymax, found {corners}"
            )
    return objects, told_size(root.findtext("size/width"), root.findtext("size/height")), faults


def _files(folder: Path, suffixes: frozenset[str], key: str, kind: str) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; set prepare.source.voc.{key} to the folder of {kind}")
    found = files_below(folder, suffixes)
    if not found:
        raise FileNotFoundError(f"{folder}: no {kind} in it; check prepare.source.voc.{key}")
    return found


def _pair(
    images: Path, pictures: list[Path], annotations: Path, xml_files: list[Path]
) -> tuple[list[tuple[Path, Path]], list[str]]:
    by_place = {xml.relative_to(annotations).with_suffix(""): xml for xml in xml_files}
    count, pictured = Counter(xml.stem for xml in xml_files), Counter(picture.stem for picture in pictures)
    by_stem = {xml.stem: xml for xml in xml_files if count[xml.stem] == 1 and pictured[xml.stem] == 1}
    pairs = [(p, by_place.get(p.relative_to(images).with_suffix("")) or by_stem.get(p.stem)) for p in pictures]
    unlabelled = [str(picture) for picture, xml in pairs if xml is None]
    used = {xml for _, xml in pairs}
    orphans = [str(xml) for xml in xml_files if xml not in used]
    faults = []
    if unlabelled:
        faults.append(
            f"{len(unlabelled)} pictures have no XML file: {told_files(unlabelled)}; add it (one without <object> says "
            "'no objects'), or delete the picture"
        )
    if orphans:
        faults.append(
            f"{len(orphans)} XML files have no picture: {told_files(orphans)}; restore it, or delete the file"
        )
    return [(picture, xml) for picture, xml in pairs if xml is not None], faults
