"""What all arms of the distillation benchmark share: DeepPCB's pictures, the recipe, and the one teacher.

Every arm trains on the same pictures with Ultralytics' default gains and optimiser; terms, schedule and cache are the
product's own defaults in ``params.yaml``. The test split is measured once, after the last epoch, and chooses nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
PICTURE_SIDE_PX = 640
# Ultralytics adds up gradients to 64 pictures an update and cuts their norm at 10, far below what a loss summed over so
# many has: an update is a step of fixed length. On 1,000 pictures that leaves too few of them, so an update is a batch
# here, as in the product's defaults; arms named nb64 show Ultralytics' way.
NOMINAL_BATCH = 16
# Ultralytics' defaults.
RECIPE = {
    "batch": 16,
    "optimizer": "SGD",
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
    "warmup_epochs": 3.0,
    "close_mosaic_fraction": 0.2,
    "freeze_layers": 0,
}
STUDENT_MODEL, TEACHER_SEED = "yolo11n.yaml", 0


@dataclass(frozen=True)
class Scale:
    """How large the benchmark is: what two cores can do, or what needs a GPU.

    Attributes:
        imgsz_px: side of the networks' input.
        teacher_model: its architecture.
        teacher_epochs: of its training.
        scratch: where teacher, caches and checkpoints lie.
        result: the result file.
    """

    imgsz_px: int
    teacher_model: str
    teacher_epochs: int
    scratch: Path
    result: Path


RESULTS = ROOT / "tests/bench/results"
SCALES = {
    "cpu": Scale(320, "yolo11s.yaml", 50, ROOT / ".retort/bench/distill", RESULTS / "distill.json"),
    "gpu": Scale(640, "yolo11m.yaml", 100, ROOT / ".retort/bench/distill-gpu", RESULTS / "distill_gpu.json"),
}
SCALE_NAME = os.environ.get("RETORT_BENCH_SCALE", "cpu")
SCALE = SCALES[SCALE_NAME]
TEACHER = SCALE.scratch / "teacher"


def parameters(seed: int, epochs: int, nominal_batch: int = NOMINAL_BATCH, views: int = 0) -> Any:
    """The product's parameters with this benchmark's recipe.

    Args:
        seed: of weights, views and order.
        epochs: of the student's training.
        nominal_batch: pictures an optimizer update.
        views: mosaic views a picture in the cache; 0: the product's default.
    """
    from ultralytics.utils import DEFAULT_CFG

    from kd_steps.params import load_params

    product = load_params(ROOT / "params.yaml")
    recipe = {**RECIPE, "epochs": epochs, "nominal_batch": nominal_batch, "val_interval_epochs": epochs}
    gains = {name: float(getattr(DEFAULT_CFG, name)) for name in product.augmentation.model_dump()}
    return product.model_copy(
        update={
            "seed": seed,
            "preprocessing": product.preprocessing.model_copy(update={"imgsz_px": SCALE.imgsz_px}),
            "augmentation": product.augmentation.model_copy(update=gains),
            "compute": product.compute.model_copy(update={"cache_images": "ram"}),
            "cache_logits": product.cache_logits.model_copy(update={"views": views, "closing_views": 0}),
            "distill": product.distill.changed(**recipe, model=STUDENT_MODEL),
        }
    )


def pictures(split: str) -> list[Any]:
    """The authors' ``train`` (1,000) or ``test`` (500) list as labelled pictures, ordered by their content."""
    from kd_steps.adapters.sources.deeppcb import CLASSES, load_deeppcb
    from kd_steps.core.data.boxes import xyxy_to_yolo
    from kd_steps.core.data.sample import LabelledImage

    folder = os.environ.get("RETORT_DEEPPCB")
    if folder is None:
        raise SystemExit("RETORT_DEEPPCB: not set; it names the folder that holds DeepPCB's PCBData/")
    images = [
        LabelledImage(
            path=Path(image.picture),
            digest=hashlib.sha256(image.read()).hexdigest(),
            size_wh_px=(PICTURE_SIDE_PX, PICTURE_SIDE_PX),
            class_ids=np.array([CLASSES.index(name) for name in image.class_names], dtype=np.int64),
            boxes_xywh=xyxy_to_yolo(image.boxes_xyxy_px, PICTURE_SIDE_PX, PICTURE_SIDE_PX).astype(np.float32),
        )
        for image in load_deeppcb(Path(folder), "authors").images
        if image.split == split
    ]
    return sorted(images, key=lambda image: image.digest)


def classes() -> Sequence[str]:
    """DeepPCB's class names, in the order of the outputs."""
    from kd_steps.adapters.sources.deeppcb import CLASSES

    return CLASSES


def teacher() -> tuple[Any, Any]:
    """The one teacher of all arms, trained once and kept: its sidecar and the detector."""
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.sidecar import SIDECAR, WEIGHTS, read_sidecar, write_sidecar
    from kd_steps.adapters.yolo.models import build_model, load_weights, parameter_count
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan, training_run
    from kd_steps.adapters.yolo.train.training import finish, train

    folder, params = TEACHER, parameters(TEACHER_SEED, SCALE.teacher_epochs)
    contract = current_contract(params.preprocessing, params.augmentation)
    if not (folder / SIDECAR).exists():
        model = build_model(SCALE.teacher_model, classes(), TEACHER_SEED)
        run = training_run(
            params,
            params.distill,
            model,
            classes(),
            pictures("train"),
            pictures("test"),
            fresh_views_plan(params.distill),
            contract.augmentation_digest,
            folder,
            keep="last",
        )
        measured = finish(run, train(run), folder / WEIGHTS)
        parameter_total = parameter_count(model)
        write_sidecar(
            folder, "teacher", SCALE.teacher_model, classes(), (), parameter_total, contract, "DeepPCB", measured, {}
        )
    # A teacher that was trained on other views may teach; it answers to the students' views, by their contract.
    sidecar = replace(read_sidecar(folder), contract=contract)
    return sidecar, load_weights(folder / WEIGHTS, sidecar.sha256)
