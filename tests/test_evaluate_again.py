"""`evaluate` once more: what is handed over, what is measured again and why, and bundles from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_fixture import REPOSITORY, stage_environment
from evaluated_project import (
    ENGINES,
    change_params,
    detections,
    entries,
    run_stage,
)

pytestmark = pytest.mark.slow


def stamps(project: Path) -> dict[str, tuple[int, int]]:
    """When the detections and the latency of each engine were written."""
    folders = (project / "evaluation/bundles").iterdir()
    parts = ("detections.npz", "latency.npz")
    return {f.name: tuple((f / part).stat().st_mtime_ns for part in parts) for f in folders}  # type: ignore[misc]


def test_nothing_is_measured_again_where_nothing_changed(evaluated_copy: Path) -> None:
    """Nor where an engine is gone; latency alone where only its knobs changed; all of it where that is asked for."""
    before, numbers = stamps(evaluated_copy), (evaluated_copy / "metrics/engines.json").read_bytes()
    done = run_stage(evaluated_copy)
    assert done.returncode == 0, done.stderr
    assert stamps(evaluated_copy) == before
    assert (evaluated_copy / "metrics/engines.json").read_bytes() == numbers
    assert done.stdout.count("measured already; the bundle is handed over") == len(ENGINES)

    shutil.rmtree(evaluated_copy / "models/engines/ort-cpu-int8")
    change_params(evaluated_copy, latency={"warm_up_s": 0.1, "rounds": 31, "seconds": 0.2, "threads": 1})
    done = run_stage(evaluated_copy)
    assert done.returncode == 0, done.stderr
    assert "onnx-fp32: measured its latency again, as this has changed: how it is measured" in done.stdout
    after = stamps(evaluated_copy)
    assert after.keys() == before.keys() - {"ort-cpu-int8"}
    assert all(own[0] > before[name][0] and own[1] > before[name][1] for name, own in after.items())
    kept = {name: value for name, value in json.loads(numbers)["engines"].items() if name != "ort-cpu-int8"}
    assert {k: v["map_ratio"] for k, v in entries(evaluated_copy).items()} == {
        k: v["map_ratio"] for k, v in kept.items()
    }
    assert {p.name for p in (evaluated_copy / "models/releases").iterdir()} == {"onnx-fp32", "openvino-fp16"}

    shutil.rmtree(evaluated_copy / "evaluation/bundles")  # what the gate's message tells to do
    done = run_stage(evaluated_copy)
    assert "onnx-fp32: measured for the first time" in done.stdout
    assert all(own[1] > after[name][1] for name, own in stamps(evaluated_copy).items())


def test_other_knobs_find_other_detections(evaluated_copy: Path) -> None:
    change_params(evaluated_copy, confidence=0.05)
    assert run_stage(evaluated_copy).returncode == 0
    assert detections(evaluated_copy, "teacher")["score"].min() >= 0.05


def test_a_changed_line_below_edge_measures_again_and_says_so(evaluated_copy: Path) -> None:
    before = stamps(evaluated_copy)
    shutil.copytree(REPOSITORY / "kd_steps", evaluated_copy / "kd_steps")
    with (evaluated_copy / "kd_steps/edge/postprocess.py").open("a") as stream:
        stream.write("# a remark\n")
    environment = stage_environment(evaluated_copy) | {"PYTHONPATH": str(evaluated_copy)}
    command = [sys.executable, "-m", "kd_steps.evaluate"]
    done = subprocess.run(command, cwd=evaluated_copy, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "onnx-fp32: measured again, as this has changed: the code below kd_steps/edge" in done.stdout
    assert all(own[1] > before[name][1] for name, own in stamps(evaluated_copy).items())


def test_bundles_from_elsewhere_are_judged_beside_where_they_fit(evaluated_copy: Path) -> None:
    elsewhere, here = evaluated_copy / "data/bundles", evaluated_copy / "evaluation/bundles"
    measure = [
        *(sys.executable, "-m", "kd_steps.edge", "measure", "--engine", "models/engines/onnx-fp32"),
        *("--reference", "models/engines/teacher", "--pictures", "data/prepared/images"),
        *("--out", "data/bundles/line-2", "--rounds", "20", "--seconds", "0.1", "--confidence", "0.3"),
    ]
    subprocess.run(measure, cwd=evaluated_copy, env=stage_environment(evaluated_copy), check=True, timeout=300)
    for name, part, key in (("strange", "engine_digest", "0" * 64), ("other-teacher", "reference_digest", "1" * 64)):
        shutil.copytree(here / "onnx-fp32", elsewhere / name)
        note = json.loads((elsewhere / name / "bundle.json").read_text())
        (elsewhere / name / "bundle.json").write_text(json.dumps(note | {part: key}))
    done = run_stage(evaluated_copy)
    assert done.returncode == 0, done.stderr
    found = entries(evaluated_copy)
    assert found.keys() == ENGINES | {"onnx-fp32@line-2"}
    beside, own = found["onnx-fp32@line-2"], found["onnx-fp32"]
    assert (beside["state"], beside["measured"]["where"]) == ("measured", "line-2")
    assert beside["release_digest"] is None
    for same in ("engine_digest", "map50_95", "map_ratio", "false_alarms_per_picture"):
        assert beside[same] == own[same]
    assert beside["latency"] != own["latency"]
    assert f"data/bundles/strange: measured an engine that is not here, {'0' * 64}: left out" in done.stdout
    assert "data/bundles/other-teacher: measured against another reference than here: left out" in done.stdout
    assert run_stage(evaluated_copy, "gate").returncode == 0

    (elsewhere / "line-2/latency.npz").write_bytes(b"cut")
    done = run_stage(evaluated_copy)
    assert done.returncode == 1
    assert "data/bundles/line-2/latency.npz: missing, or not the file that bundle.json names" in done.stderr


def test_a_killed_run_keeps_the_engines_it_finished(evaluated_copy: Path) -> None:
    shutil.rmtree(evaluated_copy / "evaluation")
    (evaluated_copy / "metrics/engines.json").unlink()
    running = subprocess.Popen(
        [sys.executable, "-m", "kd_steps.evaluate"],
        cwd=evaluated_copy,
        env=stage_environment(evaluated_copy),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    bundles = evaluated_copy / "evaluation/bundles"
    first = bundles / ".teacher.unfinished/detections.npz"
    deadline_s = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    stamp = first.stat().st_mtime_ns
    assert not (evaluated_copy / "metrics/engines.json").exists()
    done = run_stage(evaluated_copy)
    assert done.returncode == 0, done.stderr
    assert (bundles / "teacher/detections.npz").stat().st_mtime_ns == stamp
    assert set(entries(evaluated_copy)) == ENGINES
    assert {p.name for p in bundles.iterdir()} == ENGINES
