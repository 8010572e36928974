"""Probe pictures through every preprocessing path, compared with the edge runtime's network input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.models import ModelScale, build_model, load_weights, switch_off_integrations
from kd_steps.adapters.yolo.preprocess import PredictorPath, TrainingLoaderPath, rounded_up_input
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.validation.parity import parity_row
from kd_steps.edge.contract import PreprocessingContract
from kd_steps.edge.preprocess import Preprocessor, read_picture

CLASSES = ("any",)  # preprocessing does not look at classes
COLUMNS = (
    "path_name", "file", "largest_difference", "unexplained_difference", "differing_share", "place", "cause",
    "contract_difference",
)  # fmt: skip


def probe_model(model: str | ModelScale, weights_sha256: str | None) -> DetectionModel:
    """A detector of this architecture; its weights don't matter here, its stride and channels do.

    Raises:
        ArchitectureError: there is no such model YAML, or it does not describe a detector.
        WeightsError: the weight file is not the pinned one.
    """
    switch_off_integrations()
    if isinstance(model, str) and model.endswith(".pt"):
        if Path(model).exists():
            return load_weights(Path(model), weights_sha256)
        model = f"{Path(model).stem}.yaml"  # a released weight file, fetched when it is trained on
    return build_model(model, CLASSES, seed=0)


def parity_table(
    teacher: DetectionModel, student: DetectionModel, probes: Sequence[Path], contract: PreprocessingContract
) -> pd.DataFrame:
    """One row a probe and path; columns as :func:`kd_steps.core.validation.parity.parity_row` tells.

    Args:
        teacher: gives the teacher's path its stride and channels.
        student: gives the student's.
        probes: picture files that can be decoded.
        contract: what the edge runtime is held to.
    """
    edge = Preprocessor(contract)
    nothing = np.zeros(0, np.int64), np.zeros((0, 4), np.float32)
    sizes = [read_picture(path).shape for path in probes]
    pictures = [LabelledImage(p, "", (s[1], s[0]), *nothing) for p, s in zip(probes, sizes, strict=True)]
    paths: dict[str, PredictorPath | TrainingLoaderPath] = {
        "teacher": PredictorPath(teacher, contract.imgsz_px),
        "student": PredictorPath(student, contract.imgsz_px),
        "training_loader": TrainingLoaderPath(pictures, contract.imgsz_px),
    }
    contracts = {name: contract.differences(path.contract(contract)) for name, path in paths.items()}
    rows = []
    for probe in tqdm(probes, desc="validate: preprocessing parity", unit="img"):
        expected, _ = edge(read_picture(probe))
        for name, path in paths.items():
            named = rounded_up_input(probe, contract) if name == "training_loader" else None
            rows.append(parity_row(name, str(probe), expected, path(probe), named, contracts[name]))
    return pd.DataFrame(rows, columns=list(COLUMNS))
