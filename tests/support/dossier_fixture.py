"""A finished pipeline on disk, as the stages before ``report`` and ``register`` leave it, without training anything.

The pictures are drawn, the detections are the drawn boxes with noise; every file has the layout of the real stages.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from prepared import list_classes, write_card

from kd_steps.adapters.files import write_document
from kd_steps.artifacts import GateVerdict, PicturesCard
from kd_steps.core.distill.teacher_choice import judge_capacity, judge_lead
from kd_steps.core.evaluation.gates import gate_verdict as core_gate_verdict
from kd_steps.edge.contract import PreprocessingContract
from kd_steps.edge.manifest import Golden, Manifest, digest_of, this_machine
from kd_steps.edge.release import OperatingPoint, Release
from kd_steps.params import load_params

REPOSITORY = Path(__file__).parents[2]
CLASSES = ["missing", "shifted", "bridge", "insufficient", "polarity"]
NEW_CLASSES = ["tombstone"]
ENGINES = {"teacher": "teacher", "onnx-fp32": "student", "ort-cpu-int8": "student", "openvino-fp16": "student"}
CONTRACT = PreprocessingContract(256, 114, "a" * 64, {"opencv": "5.0"})
CORNERS = ["x1_px", "y1_px", "x2_px", "y2_px"]
SIDE_PX = 256
CHAIN = [
    {"name": "teacher", "model": "yolo11l.yaml", "parameters": 40_000_000, "val_map50_95": 0.712},
    {"name": "assistants/m", "model": "yolo11m", "parameters": 20_000_000, "val_map50_95": None},
]


def build_project(root: Path, *, passed: bool = True, optional_fails: bool = False, seed: int = 0) -> Path:
    """Write every input of ``report`` and ``register`` below ``root``."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(REPOSITORY / "params.yaml", root / "params.yaml")
    list_classes(root, [*CLASSES, *NEW_CLASSES])
    boxes = _write_dataset(root, rng)
    for name, role in ENGINES.items():
        _write_detections(root, name, role, boxes, rng)
        if role == "student":
            write_release(root, name, seed)
    _write_curves(root)
    _write_latency(root, rng)
    for kind in ("teacher", "student", "few_shot"):
        _write_model(root, kind)
    write(root / "data/cache/header.json", {"views": 8, "teacher_sha256": "1" * 64})
    write(root / "metrics/validation.json", _validation())
    write(root / "metrics/teacher_choice.json", _teacher_choice())
    write(root / "metrics/cache.json", {"views": 2880, "bytes": 91_234_567})
    write(root / "metrics/engines.json", engines_metrics(passed, optional_fails))
    write(root / "metrics/gate.json", gate_verdict(passed, optional_fails))
    return root


def write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")


def _teacher_choice() -> dict[str, Any]:
    lead = judge_lead(0.70, [0.66], 5.0)
    capacity = judge_capacity(20_000_000, 2_000_000, 1 / 3, 1 / 2)
    return {
        "teacher": {"taught_by": "assistants/m", "model": "yolo11m", "parameters": 20_000_000},
        "student": {"parameters": 2_000_000},
        "rules": [lead.to_dict(), capacity.to_dict()],
        "proposal": ["assistant:", "  chain:", "    s: {taught_by: assistants/m}"],
    }


def gate_verdict(passed: bool = True, optional_fails: bool = False) -> dict[str, Any]:
    """What the real gate says of :func:`engines_metrics`: limits of the real ``params.yaml``, two targets required."""
    given = {"required_targets": ["onnx-fp32", "openvino-fp16"], "max_latency_ratio": 0.5}
    knobs = replace(load_params(REPOSITORY / "params.yaml").gate, **given)
    engines = engines_metrics(passed, optional_fails)["engines"]
    return GateVerdict.model_validate(core_gate_verdict(engines, knobs, knobs.required_targets)).model_dump(
        mode="json", by_alias=True
    )


def engines_metrics(passed: bool = True, optional_fails: bool = False) -> dict[str, Any]:
    """``metrics/engines.json``; without ``passed``, openvino-fp16 (required) loses accuracy."""
    found: dict[str, Any] = {}
    for number, (name, role) in enumerate(ENGINES.items()):
        teacher = role == "teacher"
        share = 1.0 if teacher else 0.985 - 0.005 * number
        if name == "openvino-fp16" and not passed:
            share = 0.912
        classes = CLASSES if teacher else CLASSES + NEW_CLASSES
        stages = {"preprocess_ms": 0.6, "inference_ms": 24.0 / (1 + 1.3 * number), "postprocess_ms": 0.4}
        stages["total_ms"] = sum(stages.values())
        latency_ratio = 0.53 if name == "ort-cpu-int8" and optional_fails else stages["total_ms"] / 25.0
        ap50 = {c: 0.92 * share - 0.05 * i for i, c in enumerate(classes)}
        found[name] = {
            "target": "onnx-fp32" if teacher else name,
            "state": "verified-device",
            "role": role,
            "engine_digest": f"{number}" * 64,
            "release_digest": None if teacher else f"{number + 4}" * 64,
            "measured": {
                "where": "here",
                "cpu_model": "a processor",
                "cores": 2,
                "load_per_core": 0.75,
                "golden_error": 1e-6,
            },
            "parameters": 9_416_000 if teacher else 2_242_000,
            "bytes": 37_900_000 if teacher else 9_100_000 // number,
            "map50_95": 0.61 * share,
            "map50": 0.89 * share,
            "map75": 0.66 * share,
            "map50_95_all": None if teacher else 0.57 * share,
            "map_ratio": {"value": share, "low": share - 0.012, "high": share + 0.012, "n": 240},
            "per_class": {
                c: {"ap50_95": ap - 0.3, "ap50": ap, "n_objects": 90 - 9 * i, "is_new": c in NEW_CLASSES}
                for i, (c, ap) in enumerate(ap50.items())
            },
            "per_class_ap50_interval": {
                c: {"value": ap, "low": ap - 0.06, "high": ap + 0.05, "n": 80} for c, ap in ap50.items()
            },
            "false_alarms_per_picture": {"value": 0.1, "low": 0.04, "high": 0.21, "n": 60},
            "latency": {
                **{k: {"p50": v, "p90": v * 1.1, "p99": v * 1.4} for k, v in stages.items()},
                "ratio_to_teacher": {
                    "value": latency_ratio,
                    "low": latency_ratio - 0.01,
                    "high": latency_ratio + 0.01,
                    "n": 400,
                },
                "rounds": 400,
                "threads": 1,
            },
            "latency_control": {
                "value": 1.0,
                "low": 0.99,
                "high": 1.01,
                "n": 400,
                "ok": True,
                "confidence_level": 0.99,
                "attempts": 1,
            },
            "confidence_level": 0.95,
        }
    return {"schema": 1, "engines": found, "left_out": {}}


def _write_dataset(root: Path, rng: np.random.Generator) -> pd.DataFrame:
    images, boxes = [], []
    for split, count in (("test", 18), ("defect_free", 4)):
        folder = root / "data/prepared/images" / split
        folder.mkdir(parents=True)
        for number in range(count):
            image_id = f"{split}_{number:04d}"
            picture = np.full((SIDE_PX, SIDE_PX, 3), (52, 92, 28), np.uint8)
            picture = cv2.add(picture, rng.integers(0, 12, picture.shape, dtype=np.uint8))
            for _ in range(9):
                x, y = (int(v) for v in rng.integers(10, 210, 2))
                cv2.rectangle(picture, (x, y), (x + 30, y + 14), (168, 190, 196), -1)
                cv2.rectangle(picture, (x + 8, y), (x + 22, y + 14), (38, 38, 44), -1)
            for _ in range(int(rng.integers(1, 5)) if split == "test" else 0):
                x, y = (float(v) for v in rng.integers(12, 190, 2))
                w, h = (float(v) for v in rng.integers(20, 52, 2))
                class_id = int(rng.integers(0, 6))
                name = (CLASSES + NEW_CLASSES)[class_id]
                cv2.ellipse(
                    picture, (int(x + w / 2), int(y + h / 2)), (int(w / 3), int(h / 3)), 0, 0, 360, (90, 200, 240), -1
                )
                boxes.append((image_id, split, class_id, name, x, y, x + w, y + h, class_id >= len(CLASSES)))
            cv2.imwrite(str(folder / f"{image_id}.png"), picture)
            path = f"images/{split}/{image_id}.png"
            images.append((image_id, split, path, SIDE_PX, SIDE_PX, 3, f"board{number // 2}"))
    frame = pd.DataFrame(boxes, columns=["image_id", "split", "class_id", "class_name", *CORNERS, "is_new"])
    frame.to_parquet(root / "data/prepared/boxes.parquet")
    columns = ["image_id", "split", "path", "width_px", "height_px", "channels", "group"]
    pd.DataFrame(images, columns=columns).to_parquet(root / "data/prepared/images.parquet")
    counts = {"train": 300, "val": 60, "test": 18, "defect_free": 4}
    write_card(root / "data/prepared", CLASSES, NEW_CLASSES, counts, source="synthetic")
    unlabelled = PicturesCard(images={"unlabelled": 77}, digest="e" * 64, warnings=())
    write_document(root / "data/unlabelled/dataset.json", unlabelled)
    return frame


def _write_detections(root: Path, name: str, role: str, boxes: pd.DataFrame, rng: np.random.Generator) -> None:
    known = boxes[boxes["class_id"] < (5 if role == "teacher" else 6)]
    found = known[rng.random(len(known)) < (0.95 if role == "teacher" else 0.85)].copy()
    found[CORNERS] += rng.normal(0, 1.2, (len(found), 4))
    found["score"] = rng.uniform(0.3, 0.97, len(found))
    alarms = boxes.sample(3, random_state=1)[["image_id", "split", "class_id"]].assign(
        x1_px=4.0, y1_px=200.0, x2_px=40.0, y2_px=236.0, score=[0.31, 0.42, 0.12]
    )
    frame = pd.concat([found, alarms], ignore_index=True)[["image_id", "split", "class_id", "score", *CORNERS]]
    path = root / "evaluation/detections" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path)


def write_release(root: Path, name: str, seed: int) -> None:
    folder = root / "models/releases" / name
    folder.mkdir(parents=True)
    openvino = name.startswith("openvino")
    content = f"{name}-{seed}".encode() * 50
    for file in ("model.xml", "model.bin") if openvino else ("model.onnx",):
        (folder / file).write_bytes(content)
    (folder / "golden.npz").write_bytes(content[::-1])
    runtime = "openvino" if openvino else "onnxruntime"
    manifest = Manifest(
        name=name,
        target=name,
        runtime=runtime,
        role="student",
        state="built",
        files={path.name: digest_of(path) for path in sorted(folder.iterdir())},
        task="detect",
        classes=tuple(CLASSES + NEW_CLASSES),
        columns=tuple(range(len(CLASSES + NEW_CLASSES))),
        new_classes=tuple(NEW_CLASSES),
        contract=CONTRACT,
        output_format="anchors",
        parameters=2_242_000,
        precision="float32",
        inference_precision="float32",
        source_sha256="3" * 64,
        versions={"onnx": "1.23.2"},
        target_profile=this_machine(runtime, portable=True),
        golden=Golden("golden.npz", 4, 1e-3),
        parity={},
    )
    write(folder / "manifest.json", manifest.to_dict())
    release = Release(manifest.engine_digest, OperatingPoint(0.5, 0.6, 300), ((),) * manifest.golden.images)
    write(folder / "release.json", release.to_dict())


def _write_curves(root: Path) -> None:
    recall = np.linspace(0, 1, 101)
    rows = []
    for number, (engine, role) in enumerate(ENGINES.items()):
        for i, name in enumerate(CLASSES if role == "teacher" else CLASSES + NEW_CLASSES):
            precision = np.clip(1 - recall ** (7 - i - 0.6 * number), 0, 1)
            rows.append(pd.DataFrame({"engine": engine, "class_name": name, "recall": recall, "precision": precision}))
    pd.concat(rows).to_parquet(root / "evaluation/curves.parquet")


def _write_latency(root: Path, rng: np.random.Generator) -> None:
    rows = []
    for number, engine in [*enumerate(ENGINES), (0, "teacher-again")]:
        inference = 24.0 / (1 + 1.3 * number) * rng.lognormal(0, 0.08, 120)
        frame = pd.DataFrame({"round": range(120), "engine": engine, "preprocess_ms": 0.6, "inference_ms": inference})
        rows.append(frame.assign(postprocess_ms=0.4, total_ms=inference + 1.0))
    pd.concat(rows).to_parquet(root / "evaluation/latency.parquet")


def _write_model(root: Path, kind: str) -> None:
    folder = root / "models" / kind
    digit = {"teacher": "1", "student": "2", "few_shot": "3"}[kind]
    sidecar = {
        "kind": kind,
        "model": "yolo11s.yaml" if kind == "teacher" else "yolo11.yaml",
        "classes": CLASSES,
        "new_classes": NEW_CLASSES if kind == "few_shot" else [],
        "sha256": digit * 64,
        "parameters": 9_416_000 if kind == "teacher" else 2_242_000,
        "contract": CONTRACT.to_dict(),
        "contract_digest": CONTRACT.digest,
        "dataset_digest": "d" * 64,
        "training": {"epochs": 3, "val_map50_95": 0.6},
        "lineage": {"taught_by": "assistants/m", "chain": CHAIN} if kind == "student" else {},
        "versions": {"torch": "2.15.0", "ultralytics": "8.4.190"},
    }
    write(folder / "sidecar.json", sidecar)
    taught = kind != "teacher"
    lines = ["epoch,time,train/box_loss,metrics/mAP50-95(B)" + ",train/kd_class,train/kd_feature" * taught]
    lines += [f"{e},{e * 1.5},{2.0 / e},{0.1 * e}" + f",{3.0 / e},{4.0 / e}" * taught for e in range(1, 4)]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    metrics: dict[str, Any] = {"epochs": 3, "val_map50": 0.88, "val_map50_95": 0.6}
    if kind == "few_shot":
        metrics |= {"new_classes": NEW_CLASSES, "shots": {"tombstone": 10}, "val_map50_95": 0.59}
    write(root / "metrics" / f"{'distill' if kind == 'student' else kind}.json", metrics)


def _validation() -> dict[str, Any]:
    suite = {"passed": True, "evaluated": 9, "unsuccessful": 0, "failures": []}
    return {
        "passed": True,
        "suites": {"images": suite, "boxes": suite, "parity": suite, "new_parts": suite},
        "counts": {"images": 378, "boxes": 900},
        "warnings": ["2 pictures are darker than the train reference"],
    }
