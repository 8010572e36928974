"""What `validate` looks at, as tables: pictures, parts and preprocessing probes, read and measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd_steps.adapters.data.images import PictureError, decode_bgr, measure
from kd_steps.adapters.data.part_sets import PartSet
from kd_steps.adapters.data.reader import PreparedSet, UnlabelledSet
from kd_steps.adapters.files import sha256_of
from kd_steps.adapters.parallel import map_in_order
from kd_steps.core.data.boxes import CORNERS
from kd_steps.core.data.sample import UNLABELLED
from kd_steps.core.data.source import PictureFacts
from kd_steps.core.validation.data_tables import label_fault, label_path, measured_row
from kd_steps.core.validation.parity import choose_probes
from kd_steps.core.validation.part_tables import PartRecord, picture_record
from kd_steps.edge.contract import PreprocessingContract, canonical_digest
from kd_steps.params import Params
from kd_steps.params.training import ScaledModel, Training


def listed_pictures(prepared: PreparedSet, unlabelled: UnlabelledSet) -> pd.DataFrame:
    """The ``images`` tables of both sets as one, with ``file``: the path from the project's folder."""
    sets = [s for s in (prepared, unlabelled) if not s.images.empty]
    tables = [s.images.assign(file=[str(s.root / path) for path in s.images["path"]]) for s in sets]
    return pd.concat(tables, ignore_index=True)


def read_pictures(prepared: PreparedSet, listed_images: pd.DataFrame) -> pd.DataFrame:
    """Read every listed picture and the label files of the prepared set, and hold those against the boxes table.

    Unlabelled pictures have no label file.
    """
    boxes_of: dict[Any, Any] = prepared.boxes.groupby("image_id").indices
    class_ids = prepared.boxes["class_id"].to_numpy(dtype=np.int64)
    corners = prepared.boxes[CORNERS].to_numpy(dtype=np.float64)
    nothing, n_classes = np.zeros(0, dtype=np.int64), len(prepared.classes) + len(prepared.new_classes)
    paths = [Path(file) for file in listed_images["file"]]
    rows = []
    listed: Any
    for listed, (facts, fault) in zip(
        listed_images.itertuples(), map_in_order(measure_file, paths, "validate: read"), strict=True
    ):
        if listed.split == UNLABELLED:
            rows.append(measured_row(facts, fault, None))
            continue
        label = prepared.root / label_path(listed.split, listed.image_id)
        size_px = int(listed.width_px), int(listed.height_px)
        mine = boxes_of.get(listed.image_id, nothing)
        told = label_fault(read_text(label), class_ids[mine], corners[mine], size_px, n_classes)
        rows.append(measured_row(facts, fault, f"{label}: {told}" if told else None))
    return pd.DataFrame(rows)


def read_parts(part_sets: Sequence[PartSet]) -> list[PartRecord]:
    """Read every picture and label file of the new-part sets."""
    records = [PartRecord(str(s.folder), str(s.folder), set_fault=s.fault) for s in part_sets if s.fault]
    records += [
        PartRecord(str(stray), str(stray), label_fault=f"{stray}: there is no picture for this label file")
        for part_set in part_sets
        for stray in part_set.stray_labels
    ]
    usable = [(s, picture) for s in part_sets if not s.fault for picture in s.pictures]
    measured = map_in_order(measure_file, [picture.path for _, picture in usable], "validate: read new parts")
    for (part_set, picture), (facts, fault) in zip(usable, measured, strict=True):
        names, text, withdrawn = part_set.names, read_text(picture.label), part_set.withdrawn
        records.append(picture_record(str(picture.path), str(picture.label), names, facts, fault, text, withdrawn))
    return records


def compare_preprocessing(images: pd.DataFrame, params: Params, contract: PreprocessingContract) -> pd.DataFrame:
    """Push probe pictures through the preprocessing of teacher, student, training loader and edge runtime."""
    from kd_steps.adapters.yolo.models import ModelScale
    from kd_steps.adapters.yolo.parity import parity_table, probe_model

    def detector(section: Training) -> Any:
        model = section.model
        scaled = ModelScale(**model.model_dump()) if isinstance(model, ScaledModel) else model
        return probe_model(scaled, section.weights_sha256)

    probes = choose_probes(images[images["picture_fault"].isna()], params.validate_.parity_probes)
    paths = [Path(file) for file in probes["file"]]
    models = {"train_teacher.model": detector(params.train_teacher), "distill.model": detector(params.distill)}
    for key, model in models.items():
        if (stride_px := int(max(model.stride))) != contract.stride_px:
            raise ValueError(
                f"params.yaml: {key}: its coarsest level has a stride of {stride_px} px, but pictures are prepared for "
                f"{contract.stride_px} px; choose a model with levels of 8, 16 and 32 px"
            )
    return parity_table(models["train_teacher.model"], models["distill.model"], paths, contract)


def measure_file(path: Path) -> tuple[PictureFacts | None, str | None]:
    """The facts of one picture file, or why it cannot be read. Runs in a worker."""
    try:
        data = path.read_bytes()
        return measure(data, decode_bgr(data, path.name), path.name), None
    except FileNotFoundError:
        return None, "there is no such file"
    except (PictureError, OSError) as error:
        return None, str(error)


def read_text(path: Path) -> str | None:
    """The text of a label file; None if there is none. Bytes that are no text become signs that don't parse."""
    return path.read_text(encoding="utf-8-sig", errors="replace") if path.exists() else None


def parts_digest(part_sets: Sequence[PartSet]) -> str:
    """sha256 over everything that new parts teach: names, pictures and labels."""
    files = [file for s in part_sets for p in s.pictures for file in (p.path, p.label)]
    return canonical_digest(
        {"names": {str(s.folder): s.names for s in part_sets}, "files": {str(file): sha256_of(file) for file in files}}
    )
