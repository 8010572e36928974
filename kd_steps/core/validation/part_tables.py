"""The table of new-part objects that its expectation suite looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kd_steps.core.data.boxes import CORNERS, yolo_to_xyxy
from kd_steps.core.data.source import PictureFacts
from kd_steps.core.data.yolo_labels import Labels, parse_yolo
from kd_steps.core.validation.data_tables import told_faults, with_box_measures

COLUMNS = {
    "file": "object", "path": "object", "set_fault": "object", "picture_fault": "object", "label_fault": "object",
    "sha256": "object", "pixel_hash": "object", "class_name": "object", "x1_px": "float64",
    "y1_px": "float64", "x2_px": "float64", "y2_px": "float64", "width_px": "float64", "height_px": "float64",
}  # fmt: skip


@dataclass(frozen=True)
class PartRecord:
    """One picture of a new-part set, or one fault of the set itself.

    Attributes:
        file: the file that a person would open to mend it.
        path: the picture, to count shots.
        names: class names of its set.
        facts: what was measured; None if it cannot be read.
        labels: its objects; None if there is no label file.
        set_fault: what is wrong with the set.
        picture_fault: why the picture cannot be read.
        label_fault: what is wrong with its label file, or that there is none.
        withdrawn_objects: how many objects of withdrawn classes were left out.
    """

    file: str
    path: str
    names: tuple[str, ...] = ()
    facts: PictureFacts | None = None
    labels: Labels | None = None
    set_fault: str | None = None
    picture_fault: str | None = None
    label_fault: str | None = None
    withdrawn_objects: int = 0


def new_parts_table(records: Sequence[PartRecord], base_images: pd.DataFrame) -> pd.DataFrame:
    """One row an object, and one for a picture without objects or for a fault of a set.

    Args:
        records: pictures and faults of all sets.
        base_images: the prepared ``images`` table; what engines are judged on, defect-free boards included, must not be
            among the shots, in whatever encoding.
    """
    rows = [row for record in records for row in _rows(record)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    table = with_box_measures(table)
    judged = base_images[base_images["split"].isin(["test", "defect_free"])].drop_duplicates("pixel_hash")
    table["test_twin"] = table["pixel_hash"].map(judged.set_index("pixel_hash")["path"]).astype(object)
    first = table.dropna(subset="sha256").drop_duplicates("sha256").set_index("sha256")["path"]
    original = table["sha256"].map(first).astype(object)
    table["content_repeat"] = original.where(original.notna() & (original != table["path"]), None)
    return table


def picture_record(
    file: str,
    label_file: str,
    names: tuple[str, ...],
    facts: PictureFacts | None,
    fault: str | None,
    text: str | None,
    withdrawn: Sequence[int] = (),
) -> PartRecord:
    """The record of one picture of a set.

    Args:
        file: the picture.
        label_file: where its label file belongs.
        names: class names of its set.
        facts: what was measured; None if it cannot be read.
        fault: why it cannot be read; None if it can.
        text: of the label file; None if there is none.
        withdrawn: places in ``names`` of withdrawn classes, whose objects are left out.
    """
    lost, labels, label_fault = 0, None, "there is no such label file; an empty one says that there are no objects"
    if text is not None:
        every, faults = parse_yolo(text, len(names))
        labels, label_fault = every.without(withdrawn), told_faults(faults)
        lost = len(every.class_ids) - len(labels.class_ids)
    told = f"{label_file}: {label_fault}" if label_fault else None
    return PartRecord(file, file, names, facts, labels, picture_fault=fault, label_fault=told, withdrawn_objects=lost)


def _rows(record: PartRecord) -> list[dict[str, object]]:
    base: dict[str, object] = {
        "file": record.file,
        "path": record.path,
        "set_fault": record.set_fault,
        "picture_fault": record.picture_fault,
        "label_fault": record.label_fault,
    }
    if record.facts is None:
        return [base]
    width_px, height_px = record.facts.width_px, record.facts.height_px
    base |= {
        "sha256": record.facts.sha256,
        "pixel_hash": record.facts.pixel_hash,
        "width_px": width_px,
        "height_px": height_px,
    }
    if record.labels is None or not len(record.labels.class_ids):
        return [base]
    corners = yolo_to_xyxy(np.asarray(record.labels.boxes_cxcywh, dtype=np.float64), width_px, height_px)
    return [
        base | {"class_name": record.names[class_id]} | dict(zip(CORNERS, box, strict=True))
        for class_id, box in zip(record.labels.class_ids.tolist(), corners.tolist(), strict=True)
    ]
