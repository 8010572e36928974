"""`evaluate`: what it finds out about every engine, the releases that it writes, and the faults that it names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from detection_tables import CORNERS
from engine_fixture import CLASSES, REPOSITORY, rewrite_manifest
from evaluated_project import (
    ENGINES,
    N_DEFECT_FREE,
    N_TEST,
    NEW,
    PICTURES_OF_A_BOARD,
    change_params,
    detections,
    entries,
    run_stage,
)

from kd_steps.adapters.coco_evaluator import evaluate_coco
from kd_steps.edge.detector import Detector
from kd_steps.edge.golden import check_golden, read_golden
from kd_steps.edge.manifest import read_manifest
from kd_steps.edge.preprocess import read_picture
from kd_steps.edge.release import read_release

pytestmark = pytest.mark.slow


def test_every_engine_has_its_entry(evaluated: Path) -> None:
    found = entries(evaluated)
    assert next(iter(found)) == "teacher"
    assert set(found) == ENGINES
    objects = pd.read_parquet(evaluated / "data/prepared/boxes.parquet")
    for name, entry in found.items():
        manifest = json.loads((evaluated / f"models/engines/{name}/manifest.json").read_text())
        assert entry["state"] == "verified-device"
        assert entry["role"] == {"teacher": "teacher", "student-before": "base_student"}.get(name, "student")
        judged = CLASSES if entry["role"] == "student" else CLASSES[: -len(NEW)]  # which alone has learnt the new ones
        assert entry["parameters"] == manifest["parameters"]
        model_files = list((evaluated / f"models/engines/{name}").glob("model.*"))
        assert entry["bytes"] == sum(f.stat().st_size for f in model_files)
        assert {c: e["n_objects"] for c, e in entry["per_class"].items()} == {
            c: int((objects["class_id"] == i).sum()) for i, c in enumerate(judged)
        }
        assert [c for c, e in entry["per_class"].items() if e["is_new"]] == [c for c in judged if c in NEW]
        assert entry["map_ratio"]["n"] == N_TEST / PICTURES_OF_A_BOARD
        assert entry["false_alarms_per_picture"]["n"] == N_DEFECT_FREE / PICTURES_OF_A_BOARD
        assert entry["latency"]["rounds"] >= 30
        for phase in ("preprocess_ms", "inference_ms", "postprocess_ms", "total_ms"):
            times = entry["latency"][phase]
            assert 0 < times["p50"] <= times["p90"] <= times["p99"]
    assert found["teacher"]["map50_95_all"] is None


def test_the_numbers_are_those_of_the_shipped_runtime(evaluated: Path) -> None:
    images = pd.read_parquet(evaluated / "data/prepared/images.parquet")
    objects = pd.read_parquet(evaluated / "data/prepared/boxes.parquet")
    knobs = yaml.safe_load((evaluated / "params.yaml").read_text())["evaluate"]
    detector = Detector.load(
        evaluated / "models/engines/openvino-fp16",
        confidence=knobs["confidence"],
        iou=knobs["nms_iou"],
        max_detections=knobs["max_detections"],
    )
    rows = []
    for image_id, path in zip(images["image_id"], images["path"], strict=True):
        found = detector.detect(read_picture(evaluated / "data/prepared" / path))
        for k in range(len(found)):
            rows.append((image_id, int(found.class_ids[k]), float(found.scores[k]), *found.boxes_xyxy_px[k]))
    again = pd.DataFrame(rows, columns=["image_id", "class_id", "score", *CORNERS])
    stored = detections(evaluated, "openvino-fp16")
    assert len(stored) == len(again) > 0
    np.testing.assert_allclose(stored[["class_id", "score", *CORNERS]], again[["class_id", "score", *CORNERS]])
    test_ids = list(images.loc[images["split"] == "test", "image_id"])
    base = evaluate_coco(objects, again, test_ids, [0, 1], knobs["max_detections"])
    entry = entries(evaluated)["openvino-fp16"]
    assert 0 < entry["map50_95"] == pytest.approx(base.map50_95)
    teacher = evaluate_coco(objects, detections(evaluated, "teacher"), test_ids, [0, 1], knobs["max_detections"])
    assert entry["map_ratio"]["value"] == pytest.approx(base.map50_95 / teacher.map50_95)
    free = again[again["image_id"].str.startswith("defect_free") & (again["score"] >= knobs["operating_confidence"])]
    assert entry["false_alarms_per_picture"]["value"] == pytest.approx(len(free) / N_DEFECT_FREE)


def test_the_teacher_against_itself_is_one_without_spread(evaluated: Path) -> None:
    ratio = entries(evaluated)["teacher"]["map_ratio"]
    assert (ratio["value"], ratio["low"], ratio["high"]) == (1, 1, 1)


def test_tables_and_plots_hold_every_engine(evaluated: Path) -> None:
    times = pd.read_parquet(evaluated / "evaluation/latency.parquet")
    assert set(times["engine"]) == ENGINES | {"teacher-again"}
    assert (times.groupby("engine")["round"].nunique() == times["round"].nunique()).all()
    np.testing.assert_allclose(times["total_ms"], times.filter(regex="process_ms|inference_ms").sum(axis=1))
    curves = pd.read_parquet(evaluated / "evaluation/curves.parquet")
    assert list(curves.columns) == ["engine", "class_name", "recall", "precision"]
    for name, entry in entries(evaluated).items():
        for class_name, values in entry["per_class"].items():
            curve = curves[(curves["engine"] == name) & (curves["class_name"] == class_name)]
            if values["n_objects"]:
                assert curve["precision"].mean() == pytest.approx(values["ap50"])
            else:
                assert values["ap50"] is None
                assert curve.empty
    assert set(pd.read_csv(evaluated / "plots/precision_recall.csv")["engine"]) == ENGINES
    assert list(pd.read_csv(evaluated / "plots/latency.csv").columns)[:2] == ["engine", "percentile"]


def test_the_gate_reads_what_evaluate_wrote(evaluated_copy: Path) -> None:
    done = run_stage(evaluated_copy, "gate")
    assert done.returncode == 0, done.stderr
    verdict = json.loads((evaluated_copy / "metrics/gate.json").read_text())
    names = {(rule["target"], rule["name"]) for rule in verdict["rules"]}
    assert names == {
        (engine, rule)
        for engine in ENGINES - {"teacher", "student-before"}  # which are measured beside, not judged
        for rule in (
            "map_ratio", "latency_ratio", "compression_ratio", "class_ap50", "new_class_ap50", "false_alarms"
        )
    }  # fmt: skip
    assert verdict["passed"] is False  # two random networks


def test_a_release_holds_the_engine_its_thresholds_and_its_golden_verdicts(evaluated: Path) -> None:
    knobs = yaml.safe_load((evaluated / "params.yaml").read_text())["evaluate"]
    folders = {p.name: p for p in (evaluated / "models/releases").iterdir()}
    assert folders.keys() == {"onnx-fp32", "ort-cpu-int8", "openvino-fp16"}
    for name, folder in folders.items():
        engine = evaluated / "models/engines" / name
        assert {p.name for p in folder.iterdir()} == {p.name for p in engine.iterdir()} | {"release.json"}
        manifest, told = read_manifest(folder), entries(evaluated)[name]
        release = read_release(folder, manifest)
        assert release is not None
        assert (told["engine_digest"], told["release_digest"]) == (manifest.engine_digest, release.release_digest)
        assert release.thresholds.confidence == knobs["operating_confidence"]
        detector = Detector.load(folder)
        for (image, _), verdicts in zip(read_golden(folder / "golden.npz"), release.golden, strict=True):
            assert [v.class_number for v in verdicts] == detector.detect(image).class_ids.tolist()
        check_golden(folder)
    assert sum(len(verdicts) for verdicts in release.golden) > 0
    assert entries(evaluated)["teacher"]["release_digest"] is None


def test_other_thresholds_are_another_release_of_the_same_engine(evaluated_copy: Path) -> None:
    before = entries(evaluated_copy)["onnx-fp32"]
    change_params(evaluated_copy, operating_confidence=0.4)
    assert run_stage(evaluated_copy).returncode == 0
    after = entries(evaluated_copy)["onnx-fp32"]
    assert after["engine_digest"] == before["engine_digest"]
    assert after["release_digest"] != before["release_digest"]


def truncate_model(project: Path) -> None:
    path = project / "models/engines/onnx-fp32/model.onnx"
    path.write_bytes(path.read_bytes()[:-100])


def truncate_picture(project: Path) -> None:
    path = project / "data/prepared/images/test/test-03.png"
    path.write_bytes(path.read_bytes()[:20])
    shutil.rmtree(project / "evaluation")


def retrain_teacher_elsewhere(project: Path) -> None:
    rewrite_manifest(project / "models/engines/teacher", classes=["bridge", "scratch"])


def empty_test_split(project: Path) -> None:
    path = project / "data/prepared/images.parquet"
    images = pd.read_parquet(path)
    images[images["split"] != "test"].to_parquet(path)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda project: shutil.rmtree(project / "models/engines/teacher"), "models/engines/teacher/manifest.json"),
        (truncate_model, "model.onnx has"),
        (truncate_picture, "test-03.png: not a picture"),
        (retrain_teacher_elsewhere, "engine 'teacher': its base classes"),
        (empty_test_split, "no picture in the split 'test'"),
    ],
)
def test_a_fault_is_named_and_leaves_the_last_verdict(evaluated_copy: Path, break_it: Any, said: str) -> None:
    before = (evaluated_copy / "metrics/engines.json").read_bytes()
    break_it(evaluated_copy)
    done = run_stage(evaluated_copy)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert (evaluated_copy / "metrics/engines.json").read_bytes() == before


def test_importing_the_stage_loads_no_runtime() -> None:
    heavy = "{'torch', 'onnxruntime', 'openvino', 'faster_coco_eval'}"
    code = f"import kd_steps.evaluate, kd_steps.gate, sys; assert not {heavy} & set(sys.modules), sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=60)
