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
from kd_steps.edge.golden import check_golden, read_golden
from kd_steps.edge.manifest import read_manifest
from kd_steps.edge.preprocess import read_picture
from kd_steps.edge.release import read_release

pytestmark = pytest.mark.slow

SEEN = {"confidence": 0.3, "iou": 0.6, "max_detections": 300}
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
    seers = [Detector.load(project / "models/engines" / name, **SEEN) for name in ("teacher", "onnx-fp32")]
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
    # Low enough that these random networks see something on the golden pictures.
    change_params(project, bootstrap_samples=100, latency=latency, operating_confidence=0.3)
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

    return json.loads((project / "metrics/engines.json").read_text(), parse_constant=refuse)["engines"]


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


def stamps(project: Path) -> dict[str, tuple[int, int]]:
    """When the detections and the latency of each engine were written."""
    folders = (project / "evaluation/bundles").iterdir()
    parts = ("detections.npz", "latency.npz")
    return {f.name: tuple((f / part).stat().st_mtime_ns for part in parts) for f in folders}  # type: ignore[misc]


def test_nothing_is_measured_again_where_nothing_changed(project: Path) -> None:
    """Nor where an engine is gone; latency alone where only its knobs changed; all of it where that is asked for."""
    before, numbers = stamps(project), (project / "metrics/engines.json").read_bytes()
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    assert stamps(project) == before
    assert (project / "metrics/engines.json").read_bytes() == numbers
    assert done.stdout.count("measured already; the bundle is handed over") == len(ENGINES)

    shutil.rmtree(project / "models/engines/ort-cpu-int8")
    change_params(project, latency={"warm_up_s": 0.1, "rounds": 31, "seconds": 0.2, "threads": 1})
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    assert "onnx-fp32: measured its latency again, as this has changed: how it is measured" in done.stdout
    after = stamps(project)
    assert after.keys() == before.keys() - {"ort-cpu-int8"}
    assert all(own[0] > before[name][0] and own[1] > before[name][1] for name, own in after.items())
    kept = {name: value for name, value in json.loads(numbers)["engines"].items() if name != "ort-cpu-int8"}
    assert {k: v["map_ratio"] for k, v in entries(project).items()} == {k: v["map_ratio"] for k, v in kept.items()}
    assert {p.name for p in (project / "models/releases").iterdir()} == {"onnx-fp32", "openvino-fp16"}

    shutil.rmtree(project / "evaluation/bundles")  # what the gate's message tells to do
    done = run_stage(project)
    assert "onnx-fp32: measured for the first time" in done.stdout
    assert all(own[1] > after[name][1] for name, own in stamps(project).items())


def test_other_knobs_find_other_detections(project: Path) -> None:
    change_params(project, confidence=0.05)
    assert run_stage(project).returncode == 0
    assert detections(project, "teacher")["score"].min() >= 0.05


def test_a_changed_line_below_edge_measures_again_and_says_so(project: Path) -> None:
    before = stamps(project)
    shutil.copytree(REPOSITORY / "kd_steps", project / "kd_steps")
    with (project / "kd_steps/edge/postprocess.py").open("a") as stream:
        stream.write("# a remark\n")
    environment = stage_environment(project) | {"PYTHONPATH": str(project)}
    command = [sys.executable, "-m", "kd_steps.evaluate"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "onnx-fp32: measured again, as this has changed: the code below kd_steps/edge" in done.stdout
    assert all(own[1] > before[name][1] for name, own in stamps(project).items())


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


def test_other_thresholds_are_another_release_of_the_same_engine(project: Path) -> None:
    before = entries(project)["onnx-fp32"]
    change_params(project, operating_confidence=0.4)
    assert run_stage(project).returncode == 0
    after = entries(project)["onnx-fp32"]
    assert after["engine_digest"] == before["engine_digest"]
    assert after["release_digest"] != before["release_digest"]


def test_bundles_from_elsewhere_are_judged_beside_where_they_fit(project: Path) -> None:
    elsewhere, here = project / "data/bundles", project / "evaluation/bundles"
    measure = [
        *(sys.executable, "-m", "kd_steps.edge", "measure", "--engine", "models/engines/onnx-fp32"),
        *("--reference", "models/engines/teacher", "--pictures", "data/prepared/images"),
        *("--out", "data/bundles/line-2", "--rounds", "20", "--seconds", "0.1", "--confidence", "0.3"),
    ]
    subprocess.run(measure, cwd=project, env=stage_environment(project), check=True, timeout=300)
    for name, part, key in (("strange", "engine_digest", "0" * 64), ("other-teacher", "reference_digest", "1" * 64)):
        shutil.copytree(here / "onnx-fp32", elsewhere / name)
        note = json.loads((elsewhere / name / "bundle.json").read_text())
        (elsewhere / name / "bundle.json").write_text(json.dumps(note | {part: key}))
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    found = entries(project)
    assert found.keys() == ENGINES | {"onnx-fp32@line-2"}
    beside, own = found["onnx-fp32@line-2"], found["onnx-fp32"]
    assert (beside["state"], beside["measured"]["where"]) == ("measured", "line-2")
    assert beside["release_digest"] is None
    for same in ("engine_digest", "map50_95", "map_ratio", "false_alarms_per_picture"):
        assert beside[same] == own[same]
    assert beside["latency"] != own["latency"]
    assert f"data/bundles/strange: measured an engine that is not here, {'0' * 64}: left out" in done.stdout
    assert "data/bundles/other-teacher: measured against another reference than here: left out" in done.stdout
    assert run_stage(project, "gate").returncode == 0

    (elsewhere / "line-2/latency.npz").write_bytes(b"cut")
    done = run_stage(project)
    assert done.returncode == 1
    assert "data/bundles/line-2/latency.npz: missing, or not the file that bundle.json names" in done.stderr


def test_a_killed_run_keeps_the_engines_it_finished(project: Path) -> None:
    shutil.rmtree(project / "evaluation")
    (project / "metrics/engines.json").unlink()
    running = subprocess.Popen(
        [sys.executable, "-m", "kd_steps.evaluate"],
        cwd=project,
        env=stage_environment(project),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    bundles = project / "evaluation/bundles"
    first = bundles / ".teacher.unfinished/detections.npz"
    deadline_s = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    stamp = first.stat().st_mtime_ns
    assert not (project / "metrics/engines.json").exists()
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    assert (bundles / "teacher/detections.npz").stat().st_mtime_ns == stamp
    assert set(entries(project)) == ENGINES
    assert {p.name for p in bundles.iterdir()} == ENGINES


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
