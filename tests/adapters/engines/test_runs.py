from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from engine_fixture import CLASSES, picture

from kd_steps.adapters.engines.runs import COLUMNS, detect_all, detections_fingerprint, detections_of, time_engines
from kd_steps.edge.manifest import read_manifest

pytestmark = pytest.mark.slow

KNOBS = {"confidence": 0.05, "iou": 0.6, "max_detections": 20}


@pytest.fixture
def pictures(tmp_path: Path) -> pd.DataFrame:
    for index in range(7):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(index, 50 + 5 * index, 80))
    names = [f"{index}.png" for index in range(7)]
    return pd.DataFrame({"image_id": [f"board-{n}" for n in names], "split": "test", "path": names})


def test_the_number_of_workers_changes_nothing(engines_dir: Path, pictures: pd.DataFrame, tmp_path: Path) -> None:
    folder = engines_dir / "onnx-fp32"
    alone = detect_all(folder, pictures, tmp_path, CLASSES, workers=1, **KNOBS)
    pd.testing.assert_frame_equal(alone, detect_all(folder, pictures, tmp_path, CLASSES, workers=3, **KNOBS))
    assert list(alone.columns) == COLUMNS
    assert len(alone) > 7
    assert alone["score"].min() >= 0.05
    assert alone["image_id"].drop_duplicates().is_monotonic_increasing


def test_class_ids_are_positions_in_the_given_names(engines_dir: Path, pictures: pd.DataFrame, tmp_path: Path) -> None:
    folder = engines_dir / "onnx-fp32"
    names = ["other", *reversed(CLASSES)]
    given = detect_all(folder, pictures, tmp_path, names, workers=2, **KNOBS)
    own = detect_all(folder, pictures, tmp_path, CLASSES, workers=2, **KNOBS)
    assert [names[k] for k in given["class_id"]] == [CLASSES[k] for k in own["class_id"]]


def test_nothing_found_is_an_empty_table_with_its_columns(
    engines_dir: Path, pictures: pd.DataFrame, tmp_path: Path
) -> None:
    knobs = {**KNOBS, "confidence": 0.9999999}
    table = detect_all(engines_dir / "onnx-fp32", pictures, tmp_path, CLASSES, workers=2, **knobs)
    assert list(table.columns) == COLUMNS
    assert table.empty
    kept = detections_of(tmp_path / "d.parquet", "f", lambda: table)
    pd.testing.assert_frame_equal(kept, detections_of(tmp_path / "d.parquet", "f", pytest.fail))


def test_detections_are_kept_for_their_fingerprint_only(tmp_path: Path) -> None:
    path, made = tmp_path / "engine.parquet", []

    def detect() -> pd.DataFrame:
        made.append(len(made))
        return pd.DataFrame({"score": [float(len(made))]})

    assert detections_of(path, "first", detect)["score"].tolist() == [1.0]
    assert detections_of(path, "first", detect)["score"].tolist() == [1.0]
    assert detections_of(path, "second", detect)["score"].tolist() == [2.0]
    assert made == [0, 1]


def test_a_detection_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    def detect() -> pd.DataFrame:
        raise ValueError("unreadable picture")

    with pytest.raises(ValueError, match="unreadable"):
        detections_of(tmp_path / "engine.parquet", "f", detect)
    assert list(tmp_path.iterdir()) == []


def test_the_fingerprint_follows_engine_data_and_knobs(engines_dir: Path) -> None:
    def fingerprint(name: str = "onnx-fp32", digest: str = "d", classes: list[str] = CLASSES, **knobs: float) -> str:
        folder = engines_dir / name
        return detections_fingerprint(folder, read_manifest(folder), digest, classes, {**KNOBS, **knobs})

    others = [
        fingerprint(name="openvino-fp16"),
        fingerprint(digest="e"),
        fingerprint(classes=CLASSES[::-1]),
        fingerprint(iou=0.5),
    ]
    assert fingerprint() == fingerprint()
    assert len({fingerprint(), *others}) == 5


def test_every_engine_is_timed_once_a_round(engines_dir: Path, pictures: pd.DataFrame, tmp_path: Path) -> None:
    folders = {"a": engines_dir / "onnx-fp32", "b": engines_dir / "openvino-fp16", "a-again": engines_dir / "onnx-fp32"}
    paths = [tmp_path / name for name in pictures["path"]]
    runtime = {**KNOBS, "warm_up_s": 0.0, "rounds": 9, "seconds": 0.01, "seed": 0, "threads": 1}
    times = time_engines(folders, paths, **runtime)
    rounds = times["round"].nunique()
    assert rounds >= 9
    assert times.groupby("engine").size().to_dict() == dict.fromkeys(folders, rounds)
    phases = times[["preprocess_ms", "inference_ms", "postprocess_ms"]]
    assert (phases > 0).all(axis=None)
    np.testing.assert_allclose(phases.sum(axis=1), times["total_ms"])
