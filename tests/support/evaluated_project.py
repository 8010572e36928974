"""A project after `evaluate`, on a handful of drawn pictures, and what tests read in it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import yaml
from detection_tables import CORNERS
from engine_fixture import CLASSES, picture, stage_environment
from prepared import write_card

from kd_steps.edge.detector import Detector
from kd_steps.edge.preprocess import read_picture

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


def evaluated_project(engine_project: Path, project: Path) -> Path:
    """A copy of a project after `export`, evaluated."""
    shutil.copytree(engine_project, project)
    write_test_pictures(project)
    latency = {"warm_up_s": 0.1, "rounds": 30, "seconds": 0.2, "threads": 1}
    # Low enough that these random networks see something on the golden pictures.
    change_params(project, bootstrap_samples=100, latency=latency, operating_confidence=0.3)
    done = run_stage(project)
    assert done.returncode == 0, done.stderr
    return project


def entries(project: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((project / "metrics/engines.json").read_text(), parse_constant=refuse)["engines"]


def detections(project: Path, engine: str) -> pd.DataFrame:
    return pd.read_parquet(project / f"evaluation/detections/{engine}.parquet")
