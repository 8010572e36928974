"""What all arms of the distillation benchmark share: DeepPCB's pictures, the recipe, and the one teacher.

Every arm is a :class:`kd_steps.adapters.yolo.training.TrainingRun` on the same pictures with Ultralytics' default
gains; the test split is measured once, after the last epoch, and chooses nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
SCRATCH = ROOT / ".retort/bench/distill"
IMGSZ_PX, BATCH = 320, 16
GAINS = ("mosaic", "scale", "translate", "degrees", "shear", "perspective", "fliplr", "flipud", "hsv_h", "hsv_s", "hsv_v")
CLOSING_FRACTION = 0.2
# Ultralytics' defaults. Its nominal batch of 64 adds up the gradients of four batches.
RECIPE = {
    "batch": BATCH,
    "nbs": 64,
    "optimizer": "SGD",
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
    "warmup_epochs": 3.0,
}
TEACHER_MODEL, STUDENT_MODEL = "yolo11s.yaml", "yolo11n.yaml"
TEACHER_EPOCHS, TEACHER_SEED = 50, 0


def gains() -> dict[str, float]:
    """Ultralytics' default augmentation."""
    from ultralytics.utils import DEFAULT_CFG

    return {name: float(getattr(DEFAULT_CFG, name)) for name in GAINS}


def gains_digest() -> str:
    """Digest of the gains, part of every view's key."""
    from kd_steps.edge.contract import canonical_digest

    return canonical_digest(gains())


def pictures(split: str) -> list[Any]:
    """The authors' ``train`` (1,000) or ``test`` (500) list as labelled pictures, ordered by their content."""
    from kd_steps.adapters.sources.deeppcb import CLASSES, load_deeppcb
    from kd_steps.core.boxes import xyxy_to_yolo
    from kd_steps.core.labelled import LabelledImage

    folder = os.environ.get("RETORT_DEEPPCB")
    if folder is None:
        raise SystemExit("RETORT_DEEPPCB: not set; it names the folder that holds DeepPCB's PCBData/")
    side = 640
    images = [
        LabelledImage(
            path=Path(image.picture),
            digest=hashlib.sha256(image.read()).hexdigest(),
            size_wh_px=(side, side),
            class_ids=np.array([CLASSES.index(name) for name in image.class_names], dtype=np.int64),
            boxes_xywh=xyxy_to_yolo(image.boxes_xyxy_px, side, side).astype(np.float32),
        )
        for image in load_deeppcb(Path(folder), "authors").images
        if image.split == split
    ]
    return sorted(images, key=lambda image: image.digest)


def classes() -> Sequence[str]:
    """DeepPCB's class names, in the order of the outputs."""
    from kd_steps.adapters.sources.deeppcb import CLASSES

    return CLASSES


def training_run(
    model: Any, train: Sequence[Any], test: Sequence[Any], plan: Any, seed: int, folder: Path, **changes: Any
) -> Any:
    """A training of this benchmark; ``changes`` replace options of the recipe or fields of the run."""
    import torch

    from kd_steps.adapters.yolo.precision import choose_device, choose_precision
    from kd_steps.adapters.yolo.training import TrainingRun

    device = choose_device("auto")
    options = {**RECIPE, "epochs": plan.epochs, **changes.pop("options", {})}
    return TrainingRun(
        model=model,
        classes=classes(),
        train=train,
        val=test,
        plan=plan,
        seed=seed,
        gains=gains(),
        augmentation_digest=gains_digest(),
        imgsz_px=IMGSZ_PX,
        options=options,
        val_interval_epochs=plan.epochs,  # only after the last epoch: the test split chooses nothing
        device=device,
        precision=choose_precision("auto", torch.device("cpu" if device == "cpu" else f"cuda:{device}")),
        loader_workers=0,
        cache_images=True,
        folder=folder,
        keep="last",
        **changes,
    )


def teacher() -> tuple[Any, dict[str, Any]]:
    """The one teacher of all arms, trained once and kept; and what its training measured."""
    from kd_steps.adapters.files import read_json, sha256_of, write_json
    from kd_steps.adapters.yolo.models import build_model, load_weights
    from kd_steps.adapters.yolo.recipe import finish
    from kd_steps.adapters.yolo.training import train
    from kd_steps.core.views import ViewPlan

    folder, note = SCRATCH / "teacher", SCRATCH / "teacher/measured.json"
    if not note.exists():
        closing = round(TEACHER_EPOCHS * CLOSING_FRACTION)
        run = training_run(
            build_model(TEACHER_MODEL, classes(), TEACHER_SEED),
            pictures("train"),
            pictures("test"),
            ViewPlan(TEACHER_EPOCHS, closing, TEACHER_EPOCHS - closing, closing),
            TEACHER_SEED,
            folder,
            options={"nbs": BATCH},  # an update a batch: it converges in far fewer epochs
        )
        measured = finish(run, train(run), folder / "weights.pt")
        write_json(note, {"model": TEACHER_MODEL, **measured, "sha256": sha256_of(folder / "weights.pt")})
    measured = read_json(note)
    return load_weights(folder / "weights.pt", measured["sha256"]), measured
