"""The `edge` extra alone, in a fresh environment: no torch, and the same detections."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from engine_fixture import REPOSITORY, picture

from kd_steps.edge.detector import Detector

pytestmark = pytest.mark.slow

THRESHOLDS = ("--confidence", "0.1", "--iou", "0.6", "--max-detections", "300")
ABSENT = ("torch", "pandas", "mlflow", "ultralytics", "onnx", "pydantic", "prefect")


def uv_command():
    if found := shutil.which("uv"):
        return [found]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    pytest.skip("uv is not installed")


@pytest.fixture(scope="module")
def edge_python(tmp_path_factory):
    """Python of a virtual environment that holds Retort's `edge` extra and nothing else."""
    root, uv = tmp_path_factory.mktemp("clean"), uv_command()
    source = root / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, source / name)
    for name in ("kd_steps", "flows"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(root / "venv")], check=True, timeout=120)
    python = root / "venv/bin/python"
    install = [*uv, "pip", "install", "-q", "--python", str(python), f"{source}[edge]"]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=500, cwd=root)
    if done.returncode and any(w in done.stderr for w in ("Failed to fetch", "dns error", "Could not connect")):
        pytest.skip(f"the package index is out of reach: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    return python


def run(python, *arguments, cwd):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(python), *arguments], cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_edge_environment_has_nothing_of_the_pipeline(edge_python, tmp_path):
    script = f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n)])"
    done = run(edge_python, "-c", script, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", ["teacher", "onnx-fp32", "ort-cpu-int8", "openvino-fp16"])
def test_it_detects_what_this_process_detects(edge_python, engines_dir, tmp_path, name):
    image = picture(11, 100, 140)
    cv2.imwrite(str(tmp_path / "board.png"), image)
    command = ["-m", "kd_steps.edge", "detect", "--engine", str(engines_dir / name), *THRESHOLDS]
    done = run(edge_python, *command, "board.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    detections = json.loads(done.stdout)["detections"]
    here = Detector.load(engines_dir / name, confidence=0.1, iou=0.6, max_detections=300).detect(image)
    assert len(detections) == len(here) > 0
    assert [d["class_number"] for d in detections] == here.class_ids.tolist()
    assert np.allclose([d["score"] for d in detections], here.scores, atol=1e-5)
    assert np.allclose([d["box_xyxy_px"] for d in detections], here.boxes_xyxy_px, atol=1e-2)


def test_its_commands_run_an_engine_and_say_what_the_pipeline_needs(edge_python, engines_dir, tmp_path):
    engine = engines_dir / "onnx-fp32"
    checked = run(edge_python.with_name("retort-edge"), "check", "--engine", str(engine), cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["engine"] == str(engine)
    refused = run(edge_python.with_name("retort"), "status", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "pip install '.[pipeline]'" in refused.stderr
    assert "retort-edge" in refused.stderr
    assert "Traceback" not in refused.stderr
