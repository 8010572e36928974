"""A small project whose `export` stage has been run for real: three random networks, a few pictures, five engines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import yaml
from prepared import list_classes, write_card, write_part_set

REPOSITORY = Path(__file__).parents[2]
CLASSES = ["bridge", "shifted", "tombstone"]  # the last is a new part, which the teacher does not know
IMGSZ_PX = 64


def classes_of(engine):
    """The class names of an engine of the fixture, by its name."""
    return CLASSES[:2] if engine == "teacher" else CLASSES


def stage_environment(root):
    quiet = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(root / ".retort")}
    return {**os.environ, **quiet, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "2"}


def run_export(root):
    command = [sys.executable, "-m", "kd_steps.export"]
    return subprocess.run(command, cwd=root, env=stage_environment(root), capture_output=True, text=True, check=False)


def write_checkpoint(path, architecture, seed, classes=CLASSES):
    """A detector with random weights whose scores spread over 0-1, so that thresholds and NMS have work to do."""
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=str(path.parents[2] / ".retort"))
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = YOLO(architecture)
        model.model = DetectionModel(architecture, nc=len(classes), verbose=False)
        model.model.names = dict(enumerate(classes))
        for module in model.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        head = model.model.model[-1]
        for branches in (head.cv3, getattr(head, "one2one_cv3", None) or []):
            for branch in branches:
                branch[-1].weight.data.mul_(4)
                branch[-1].bias.data.uniform_(-2, 0)
        model.save(str(path))
    return sum(p.numel() for p in model.model.parameters())


def write_model_folder(folder, kind, architecture, seed, contract, classes=CLASSES):
    from kd_steps.adapters.sidecar import write_sidecar

    folder.mkdir(parents=True, exist_ok=True)
    parameters = write_checkpoint(folder / "weights.pt", architecture, seed, classes)
    new = CLASSES[2:] if kind == "few_shot" else []
    write_sidecar(folder, kind, architecture, classes, new, parameters, contract, "0" * 64, {}, {})


def picture(seed, height_px, width_px):
    """Soft blobs: a picture with structure, deterministic by seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_CUBIC)


def write_prepared(root):
    rows = []
    for split, count in (("train", 12), ("val", 4)):
        for index in range(count):
            image_id, path = f"{split}-{index:02}", f"images/{split}/{split}-{index:02}.png"
            target = root / "data/prepared" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), picture(index, 60 + 8 * index, 90))
            rows.append({"image_id": image_id, "split": split, "path": path})
    pd.DataFrame(rows).to_parquet(root / "data/prepared/images.parquet")
    write_card(root / "data/prepared", CLASSES[:2], CLASSES[2:], {"train": 12, "val": 4})


def write_params(root, **export):
    """The real parameters, shrunk."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["preprocessing"]["imgsz_px"] = IMGSZ_PX
    params["export"] |= {"calibration_images": 6, "golden_images": 3, **export}
    params["gate"]["required_targets"] = ["onnx-fp32"]
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def contract_of_project():
    from kd_steps.edge.contract import PreprocessingContract

    return PreprocessingContract(IMGSZ_PX, 114, "0" * 64, {"opencv": cv2.__version__})


def make_project(root):
    write_params(root)
    write_prepared(root)
    list_classes(root, CLASSES)
    write_part_set(root / "data/new_parts/held_out", CLASSES[2:], 2, 7_000)
    write_model_folder(root / "models/teacher", "teacher", "yolo26n.yaml", 1, contract_of_project(), CLASSES[:2])
    write_model_folder(root / "models/student", "student", "yolo11n.yaml", 3, contract_of_project(), CLASSES[:2])
    write_model_folder(root / "models/few_shot", "few_shot", "yolo11n.yaml", 2, contract_of_project())
    done = run_export(root)
    assert done.returncode == 0, done.stderr
    return root


def release(engine_dir, thresholds):
    """Make a copy of an engine a release, as `evaluate` does."""
    from kd_steps.edge.finding import Finding, find
    from kd_steps.edge.golden import read_golden
    from kd_steps.edge.manifest import read_manifest
    from kd_steps.edge.release import make_release

    pictures = [image for image, _ in read_golden(engine_dir / "golden.npz")]
    finding = Finding(0.001, thresholds.iou, 300)
    golden = find(engine_dir, pictures, lambda image: image, finding, lambda *_: None)
    made = make_release(read_manifest(engine_dir), thresholds, golden)
    (engine_dir / "release.json").write_text(json.dumps(made.to_dict()))
    return engine_dir


def rewrite_manifest(engine_dir, **changes):
    """Change fields, as somebody who knows the format could: the engine digest is that of the new fields."""
    from kd_steps.edge.manifest import Manifest, ManifestError

    path = engine_dir / "manifest.json"
    values = json.loads(path.read_text()) | changes
    try:
        Manifest.from_dict(values)
    except ManifestError as error:
        if found := re.search(r"contract and classes give ([0-9a-f]{64})", str(error)):
            values |= {"engine_digest": found[1]} if "engine_digest" not in changes else {}
    except Exception:  # what is impossible stays as it is
        pass
    path.write_text(json.dumps(values))
