from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from detection_tables import CORNERS
from engine_fixture import CLASSES, REPOSITORY, picture, rewrite_manifest, stage_environment
from prepared import write_card

from kd_steps.adapters.coco_evaluator import evaluate_coco
from kd_steps.edge.detector import Detector
from kd_steps.edge.preprocess import read_picture

pytestmark = pytest.mark.slow

BASE, NEW = CLASSES[:2], CLASSES[2:]
ENGINES = {"teacher", "onnx-fp32", "ort-cpu-int8", "openvino-fp16", "student-before"}
N_TEST, N_DEFECT_FREE, PICTURES_OF_A_BOARD = 12, 4, 2


def run_stage(project: Path, stage: str = "evaluate") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"kd_steps.{stage}"]
    environment = stage_environment(project)
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)


def write_test_pictures(project: Path) -> None:
    """Test and defect-free pictures; the objects are what teacher and student say they see, half from each."""
    prepared = project / "data/prepared"
    shutil.rmtree(prepared)
    seers = [Detector.load(project / "models/engines" / name, confidence=0.3) for name in ("teacher", "onnx-fp32")]
    rows, boxes = [], []
    for split, count in (("test", N_TEST), ("defect_free", N_DEFECT_FREE)):
        for index in range(count):
            image_id = f"{split}-{index:02}"
            path = prepared / f"images/{split}/{image_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture(100 + 50 * (split == "test") + index, 60 + 4 * index, 90))
            board = f"{split}-board-{index // PICTURES_OF_A_BOARD}"
            place = path.relative_to(prepared).as_posix()
            rows.append({"image_id": image_id, "split": split, "path": place, "group": board})
            if split == "test":
                found = seers[index % 2].detect(read_picture(path))
                for class_id, box in list(zip(found.class_ids, found.boxes_xyxy_px, strict=True))[:6]:
                    boxes.append((image_id, split, int(class_id), *box.astype(float)))
    pd.DataFrame(rows).to_parquet(prepared / "images.parquet")
    pd.DataFrame(boxes, columns=["image_id", "split", "class_id", *CORNERS]).to_parquet(prepared / "boxes.parquet")
    write_card(prepared, BASE, NEW, {})


def change_params(project: Path, **evaluate: Any) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["evaluate"] |= evaluate
    path.write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def evaluated(engine_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after `evaluate`; read-only for tests."""
    project = tmp_path_factory.mktemp("evaluate") / "project"
    shutil.copytree(engine_project, project)
    rewrite_manifest(project / "models/engines/teacher", new_classes=NEW)  # the fixture's teacher has all outputs
    write_test_pictures(project)
    latency = {"warm_up_s": 0.1, "rounds": 30, "seconds": 0.2, "threads": 1}
    change_params(project, bootstrap_samples=100, latency=latency)
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def project(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of an evaluated project that a test may change."""
    return Path(shutil.copytree(evaluated, tmp_path / "project"))


def entries(project: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((project / "metrics/engines.json").read_text(), parse_constant=refuse)


def detections(project: Path, engine: str) -> pd.DataFrame:
    return pd.read_parquet(project / f"evaluation/detections/{engine}.parquet")


def test_every_engine_has_its_entry(evaluated: Path) -> None:
    found = entries(evaluated)
    assert next(iter(found)) == "teacher"
    assert set(found) == ENGINES
    objects = pd.read_parquet(evaluated / "data/prepared/boxes.parquet")
    for name, entry in found.items():
        manifest = json.loads((evaluated / f"models/engines/{name}/manifest.json").read_text())
        assert entry["state"] == "verified-device"
        assert entry["role"] == {"teacher": "teacher", "student-before": "base_student"}.get(name, "student")
        judged = CLASSES[: -len(NEW)] if name == "student-before" else CLASSES  # it has not learnt the new ones
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


def test_the_gate_reads_what_evaluate_wrote(project: Path) -> None:
    done = run_stage(project, "gate")
    assert done.returncode == 0, done.stderr
    verdict = json.loads((project / "metrics/gate.json").read_text())
    names = {(rule["target"], rule["name"]) for rule in verdict["rules"]}
    assert names == {
        (engine, rule)
        for engine in ENGINES - {"teacher", "student-before"}  # which are measured beside, not judged
        for rule in (
            "map_ratio", "latency_ratio", "compression_ratio", "class_ap50", "new_class_ap50", "false_alarms"
        )
    }  # fmt: skip
    assert verdict["passed"] is False  # two random networks


def stamps(project: Path) -> dict[str, int]:
    return {p.stem: p.stat().st_mtime_ns for p in (project / "evaluation/detections").glob("*.parquet")}


def test_only_what_changed_is_detected_again(project: Path) -> None:
    before, numbers = stamps(project), {k: v["map_ratio"] for k, v in entries(project).items()}
    (project / "evaluation/detections/gone-engine.parquet").write_bytes(b"left by an engine that is no longer built")
    shutil.rmtree(project / "models/engines/ort-cpu-int8")
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    kept = {name: stamp for name, stamp in before.items() if name != "ort-cpu-int8"}
    assert stamps(project) == kept
    assert {k: v["map_ratio"] for k, v in entries(project).items()} == {k: numbers[k] for k in kept}

    change_params(project, confidence=0.05)
    assert run_stage(project).returncode == 0
    assert all(stamp > kept[name] for name, stamp in stamps(project).items())
    assert detections(project, "teacher")["score"].min() >= 0.05


def test_a_killed_run_keeps_the_engines_it_finished(project: Path) -> None:
    shutil.rmtree(project / "evaluation")
    (project / "metrics/engines.json").unlink()
    running = subprocess.Popen(
        [sys.executable, "-m", "kd_steps.evaluate"],
        cwd=project,
        env=stage_environment(project),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    first = project / "evaluation/detections/teacher.parquet"
    deadline_s = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    stamp = first.stat().st_mtime_ns
    assert not (project / "metrics/engines.json").exists()
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    assert first.stat().st_mtime_ns == stamp
    assert set(entries(project)) == ENGINES
    assert {p.name for p in first.parent.iterdir()} == {f"{name}.parquet" for name in ENGINES}


def truncate_model(project: Path) -> None:
    path = project / "models/engines/onnx-fp32/model.onnx"
    path.write_bytes(path.read_bytes()[:-100])


def truncate_picture(project: Path) -> None:
    path = project / "data/prepared/images/test/test-03.png"
    path.write_bytes(path.read_bytes()[:20])
    shutil.rmtree(project / "evaluation")


def retrain_teacher_elsewhere(project: Path) -> None:
    rewrite_manifest(project / "models/engines/teacher", new_classes=[])


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
def test_a_fault_is_named_and_leaves_the_last_verdict(project: Path, break_it: Any, said: str) -> None:
    before = (project / "metrics/engines.json").read_bytes()
    break_it(project)
    done = run_stage(project)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert (project / "metrics/engines.json").read_bytes() == before


def test_importing_the_stage_loads_no_runtime() -> None:
    heavy = "{'torch', 'onnxruntime', 'openvino', 'faster_coco_eval'}"
    code = f"import kd_steps.evaluate, kd_steps.gate, sys; assert not {heavy} & set(sys.modules), sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=60)
