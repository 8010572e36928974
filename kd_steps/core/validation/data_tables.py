"""The tables that the expectation suites look at: measurements beside what the prepared tables say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kd_steps.core.data.boxes import CORNERS, iou_matrix, unpaired, xyxy_to_yolo
from kd_steps.core.data.leaks import content_twins, groups_elsewhere, near_twins
from kd_steps.core.data.source import PictureFacts
from kd_steps.core.data.yolo_labels import LabelFault, parse_yolo

# What boards and near-duplicates must not straddle. Unlabelled pictures are trained on, too; defect-free boards share
# their group with test boards on purpose, but must not be trained on.
SIDES = {"train": "train", "val": "val", "test": "test", "unlabelled": "train"}
UNLABELLED_SIDES = {"unlabelled": "train", "defect_free": "test"}
NUMBERS = ("width_px", "height_px", "channels", "brightness", "contrast")
TEXTS = ("picture_fault", "label_fault", "sha256")
LABEL_TOLERANCE = 1e-5  # of the picture's side: labels are text with a limited number of decimals


def images_table(listed: pd.DataFrame, measured: pd.DataFrame, near_duplicate_bits: int) -> pd.DataFrame:
    """One row a picture: what the file on disk is, and how it stands to the table and the other splits.

    Args:
        listed: the ``images`` tables of the labelled and the unlabelled set, with the ``file`` each row is about.
        measured: one row a row of ``listed``, in its order: ``picture_fault`` and ``label_fault`` (text or None),
            ``sha256``, ``width_px``, ``height_px``, ``channels``, ``brightness``, ``contrast`` (NaN if unreadable).
        near_duplicate_bits: perceptual hashes this close are near-duplicates.
    """
    table = listed[["image_id", "split", "path", "file", "group", "n_boxes"]].reset_index(drop=True)
    measured = measured.reset_index(drop=True)
    measured = measured.astype(dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(TEXTS, "object"))
    for column in ("picture_fault", "label_fault", *NUMBERS):
        table[column] = measured[column]
    sides = table[["width_px", "height_px"]].astype(float)
    table["aspect_ratio"] = sides.max(axis=1) / sides.min(axis=1)
    table["record_fault"] = _record_faults(listed.reset_index(drop=True), measured)
    elsewhere, repeated = content_twins(measured["sha256"], table["split"], table["file"])
    table["content_twin"], table["content_repeat"] = elsewhere, repeated
    side = table["split"].map(SIDES).dropna()
    table["group_elsewhere"] = groups_elsewhere(table["group"][side.index], side).reindex(table.index)
    hashes = listed["phash"].to_numpy(dtype=np.int64).view(np.uint64)
    near, beside = (_near_twins(table, hashes, sides, near_duplicate_bits) for sides in (SIDES, UNLABELLED_SIDES))
    table["near_twin"] = near.where(near.notna(), beside).where(elsewhere.isna(), None)
    return table


def measured_row(facts: PictureFacts | None, picture_fault: str | None, label_fault: str | None) -> dict[str, object]:
    """One row for the ``measured`` argument of :func:`images_table`."""
    row: dict[str, object] = {"picture_fault": picture_fault, "label_fault": label_fault}
    return row | {name: getattr(facts, name) if facts else None for name in ("sha256", *NUMBERS)}


def boxes_table(boxes: pd.DataFrame, images: pd.DataFrame, class_names: Sequence[str], folder: Path) -> pd.DataFrame:
    """One row an object, with the size of its picture and everything about it that can be wrong.

    Args:
        boxes: ``boxes.parquet``.
        images: ``images.parquet``.
        class_names: base and new classes, in the order of the class numbers.
        folder: of the set, below which the table names label files.
    """
    sizes = images.drop_duplicates("image_id").set_index("image_id")[["path", "width_px", "height_px"]]
    table = boxes.reset_index(drop=True).join(sizes, on="image_id")
    table["box_id"] = np.arange(len(table))
    table["file"] = [f"{folder}/{label_path(s, i)}" for s, i in zip(table["split"], table["image_id"], strict=True)]
    names = dict(enumerate(class_names))
    table["listed_class_name"] = table["class_id"].map(names).astype(object)
    return with_box_measures(table)


def label_path(split: str, image_id: str) -> str:
    """The label file of a picture, relative to the prepared set."""
    return f"labels/{split}/{image_id}.txt"


def with_box_measures(table: pd.DataFrame) -> pd.DataFrame:
    """Add what can be wrong with a box.

    Args:
        table: one row an object: ``path``, ``class_name``, corners and picture size in px.

    Returns:
        The table with ``box_width_px``, ``box_height_px``, ``short_side_px``, ``overhang_px`` (how far it reaches out
        of its picture) and ``twin_iou`` (largest overlap with another object of its class in its picture).
    """
    corners = table[CORNERS].to_numpy(dtype=np.float64).reshape(-1, 4)
    size = table[["width_px", "height_px"]].to_numpy(dtype=np.float64).reshape(-1, 2)
    over = np.concatenate([-corners[:, :2], corners[:, 2:] - size], axis=1)
    sides = corners[:, 2:] - corners[:, :2]
    return table.assign(
        box_width_px=sides[:, 0],
        box_height_px=sides[:, 1],
        short_side_px=sides.min(axis=1, initial=np.inf),
        overhang_px=over.max(axis=1, initial=0.0),
        twin_iou=_twin_iou(table, corners),
    )


def label_fault(
    text: str | None,
    class_ids: NDArray[np.int64],
    boxes_xyxy_px: NDArray[np.float64],
    size_wh_px: tuple[int, int],
    n_classes: int,
) -> str | None:
    """What is wrong with the label file of one picture, with the line; None if it says what the boxes table says.

    Args:
        text: of the file; None if there is none.
        class_ids: of the picture's rows in the boxes table, (n,).
        boxes_xyxy_px: corners of these rows, (n, 4).
        size_wh_px: width and height of the picture.
        n_classes: base and new classes.
    """
    if text is None:
        return "there is no such label file"
    labels, faults = parse_yolo(text, n_classes)
    if faults:
        return told_faults(faults)
    expected = _rows(class_ids, xyxy_to_yolo(boxes_xyxy_px, *size_wh_px))
    found = _rows(labels.class_ids, labels.boxes_cxcywh)
    if len(found) != len(expected):
        return f"the file has {len(found)} objects, the boxes table {len(expected)}"
    torn = unpaired(found, expected, LABEL_TOLERANCE)
    return (
        None if torn is None else f"the file says {_told(found[torn[0]])}, the boxes table {_told(expected[torn[1]])}"
    )


def told_faults(faults: Sequence[LabelFault]) -> str:
    """The faults of a label file in one line of text."""
    return "; ".join(f"line {fault.line}: {fault.message}" for fault in faults)


def _near_twins(
    table: pd.DataFrame, hashes: NDArray[np.uint64], sides: dict[str, str], near_duplicate_bits: int
) -> pd.Series:
    """For each picture whose split has a side, a near-duplicate on another side; None elsewhere."""
    side = table["split"].map(sides).dropna()
    twins = near_twins(hashes[side.index], side, table["path"][side.index], near_duplicate_bits)
    return twins.reindex(table.index).astype(object)


def _record_faults(listed: pd.DataFrame, measured: pd.DataFrame) -> pd.Series:
    """Where the file is not the one that the table describes; an unreadable file is its own fault."""
    seen, said = _told_size(measured), _told_size(listed)
    readable = measured["width_px"].notna()
    digests = measured["sha256"].astype(object).str[:12], listed["sha256"].astype(object).str[:12]
    faults = pd.Series(None, index=listed.index, dtype=object)
    other_bytes = readable & (measured["sha256"].astype(object) != listed["sha256"].astype(object))
    faults[other_bytes] = "the file's sha256 starts with " + digests[0] + ", the table's with " + digests[1]
    other_size = readable & (seen != said)
    faults[other_size] = "the file is " + seen + " px, the table says " + said
    return faults


def _told_size(table: pd.DataFrame) -> pd.Series:
    sides = table[["width_px", "height_px"]].fillna(0).astype(np.int64).astype(str)
    return sides["width_px"] + " × " + sides["height_px"]


def _twin_iou(table: pd.DataFrame, corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest overlap of each box with another of its picture and class, (n,)."""
    largest = np.zeros(len(table))
    for members in table.groupby(["path", "class_name"]).indices.values():
        if len(members) > 1:
            overlap = iou_matrix(corners[members], corners[members])
            np.fill_diagonal(overlap, 0.0)
            largest[members] = overlap.max(axis=1)
    return largest


def _rows(class_ids: NDArray[np.int64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Objects as rows (class, cx, cy, w, h)."""
    return np.concatenate([class_ids[:, None].astype(np.float64), boxes], axis=1)


def _told(row: NDArray[np.float64]) -> str:
    return f"class {row[0]:.0f} at " + " ".join(f"{value:.4f}" for value in row[1:])
