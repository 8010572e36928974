"""The arms of the distillation benchmark: what differs between them, and one run of one arm with one seed."""

from __future__ import annotations

import csv
import resource
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import distill_setting as setting
import numpy as np


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        kind: how the student is taught; ``native`` is Ultralytics' distillation in our trainer, ``default`` is its own
            trainer as it comes, without a teacher.
        epochs: of its training.
        labels: labelled pictures; the plain arms see only these, the distilled ones the others without labels.
        views: mosaic views a picture, of a cached teacher; 0: the product's default.
        nominal_batch: pictures an optimizer update.
        seed_offset: added to the seed, for an arm that is another one over again.
    """

    kind: Literal["plain", "cached", "live", "native", "default", "precise"]
    epochs: int
    labels: int = 1000
    views: int = 0
    nominal_batch: int = setting.NOMINAL_BATCH
    seed_offset: int = 0


# In the order of their worth, should the time not suffice for all.
CPU_ARMS = {
    "plain-20": Arm("plain", 20),
    "cached-20": Arm("cached", 20),
    "native-20": Arm("native", 20),
    "plain-250": Arm("plain", 20, labels=250),
    "cached-250": Arm("cached", 20, labels=250),
    "plain-250-steps": Arm("plain", 80, labels=250),  # as many steps as the distilled arm takes
    "plain-time": Arm("plain", 24),  # the wall-clock of cached-20 with its cache build, by the measured ratios
    "cached-25": Arm("cached", 25),  # the wall-clock of native-20, cache build included, by the measured ratios
    "live-20": Arm("live", 20),
    "default-20": Arm("default", 20),
    "precise-20": Arm("precise", 20),
    "plain-60": Arm("plain", 60),
    "cached-60": Arm("cached", 60),
    "cached-20-v2": Arm("cached", 20, views=2),
    "cached-20-v16": Arm("cached", 20, views=16),
    "plain-20-again": Arm("plain", 20, seed_offset=100),
    "plain-20-nb64": Arm("plain", 20, nominal_batch=64),
    "cached-20-nb64": Arm("cached", 20, nominal_batch=64),
}
GPU_ARMS = {
    "plain-100": Arm("plain", 100),
    "cached-100": Arm("cached", 100),
    "native-100": Arm("native", 100),
    "live-100": Arm("live", 100),
    "plain-20": Arm("plain", 20),
    "cached-20": Arm("cached", 20),
    "native-20": Arm("native", 20),
    "plain-250": Arm("plain", 20, labels=250),
    "cached-250": Arm("cached", 20, labels=250),
}
ARMS = {"cpu": CPU_ARMS, "gpu": GPU_ARMS}[setting.SCALE_NAME]


def run_arm(arm: Arm, seed: int, folder: Path) -> dict[str, Any]:
    """Train one student and measure it on the test split after its last epoch.

    Args:
        arm: how.
        seed: of initial weights, order, views and, with few labels, of their choice.
        folder: where it keeps its checkpoints and its cache; an interrupted run goes on there.
    """
    from kd_steps.adapters.sidecar import read_sidecar

    params = setting.parameters(seed + arm.seed_offset, arm.epochs, arm.nominal_batch, arm.views)
    trainings = {"native": _native, "default": _default, "precise": _default}
    measured = trainings.get(arm.kind, _ours)(arm, params, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    taught = arm.kind in ("cached", "live", "native")
    teacher = {"teacher_sha256": read_sidecar(setting.TEACHER).sha256} if taught else {}
    return {"seed": seed, "epochs": arm.epochs, "labels": arm.labels, "peak_memory_bytes": peak, **teacher, **measured}


def training_pictures(arm: Arm, seed: int) -> list[Any]:
    """The pictures of an arm; which of them are labelled is drawn by the seed."""
    pictures = setting.pictures("train")
    chosen = set(np.random.default_rng(seed).permutation(len(pictures))[: arm.labels].tolist())
    marked = [replace(picture, labelled=number in chosen) for number, picture in enumerate(pictures)]
    return [picture for picture in marked if picture.labelled] if arm.kind == "plain" else marked


def training_run(params: Any, pictures: list[Any], plan: Any, folder: Path, distillation: Any = None) -> Any:
    """The student's training; the test split is looked at once, at its end."""
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.yolo.models import build_model
    from kd_steps.adapters.yolo.train.recipe import training_run as run_of

    return run_of(
        params,
        params.distill,
        build_model(setting.STUDENT_MODEL, setting.classes(), params.seed),
        setting.classes(),
        pictures,
        setting.pictures("test"),
        plan,
        current_contract(params.preprocessing, params.augmentation).augmentation_digest,
        folder,
        distillation,
        keep="last",
    )


def _ours(arm: Arm, params: Any, folder: Path) -> dict[str, Any]:
    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan
    from kd_steps.adapters.yolo.train.training import finish, train
    from kd_steps.jobs.cache_setting import distillation_plan
    from kd_steps.jobs.student_training import distillation_of

    pictures = training_pictures(arm, params.seed)
    plan = distillation_plan(params) if arm.kind == "cached" else fresh_views_plan(params.distill)
    distillation, teacher, told = None, None, {"teacher_forwards": 0}
    if arm.kind == "cached":
        model, cache, told = _cache(params, plan, pictures, folder)
        distillation = distillation_of(params, model, cached=cache)
    elif arm.kind == "live":
        _, model = setting.teacher()
        teacher = frozen(params, model)
        distillation = distillation_of(params, model, live=teacher.answer)
    run = training_run(params, pictures, plan, folder, distillation)
    measured = finish(run, train(run), folder / "weights.pt")
    return {
        "map50_95": measured["val_map50_95"],
        "map50": measured["val_map50"],
        "seconds": measured["seconds"],
        **({"teacher_forwards": teacher.forwards} if teacher else told),
    }


def _cache(params: Any, plan: Any, pictures: list[Any], folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    """The teacher, the cache of a run (built, or gone on with), and what it cost."""
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.files import write_json
    from kd_steps.artifacts import read_json
    from kd_steps.core.cache.keys import CacheKeys
    from kd_steps.edge.contract import canonical_digest
    from kd_steps.jobs.cache_filling import fill
    from kd_steps.jobs.cache_setting import cache_header

    sidecar, model = setting.teacher()
    digest = canonical_digest([[picture.digest, picture.labelled] for picture in pictures])
    header = cache_header(params, plan, sidecar, model, digest)
    note, started = folder / "cache_cost.json", time.monotonic()
    if not note.exists():
        _, forwards = fill(params, folder / "cache", header, model, pictures, plan)
        write_json(note, {"cache_seconds": round(time.monotonic() - started, 1), "teacher_forwards": forwards})
    cache = TeacherCache(folder / "cache", header, CacheKeys([p.digest for p in pictures], plan.all_views()))
    size = {"views": plan.views, "closing_views": plan.closing_views, "bytes": cache.bytes}
    return model, cache, {**read_json(note), **size, "bytes_per_view": round(cache.bytes / len(cache))}


def _native(arm: Arm, params: Any, folder: Path) -> dict[str, Any]:
    """Ultralytics' own distillation, on our views, order and precision; its loss is its own."""
    from distill_native import NativeTrainer

    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan
    from kd_steps.adapters.yolo.train.training import results_of

    setting.teacher()  # trained here where there is none yet
    shutil.rmtree(folder, ignore_errors=True)  # this arm does not resume
    run = training_run(params, setting.pictures("train"), fresh_views_plan(params.distill), folder)
    options = {**run.options, "distill_model": str(setting.TEACHER / "weights.pt")}
    NativeTrainer(replace(run, options=options)).train()
    return {**_last_row(results_of(folder)), "teacher_forwards": arm.epochs * len(run.train)}


def _default(arm: Arm, params: Any, folder: Path) -> dict[str, Any]:
    """Ultralytics' own trainer, with its own order and views; fp32, or, of ``precise``, in our precision."""
    from distill_native import PreciseTrainer, default_trainer
    from ultralytics.models.yolo.detect import DetectionTrainer

    shutil.rmtree(folder, ignore_errors=True)
    train, test = setting.pictures("train"), setting.pictures("test")
    kind = PreciseTrainer if arm.kind == "precise" else DetectionTrainer
    trainer = default_trainer(params, train, test, folder, kind)
    trainer.train()
    return {**_last_row(trainer.csv), "teacher_forwards": 0}


def _last_row(table: Path) -> dict[str, float]:
    with table.open(encoding="utf-8", newline="") as stream:
        last = list(csv.DictReader(stream, skipinitialspace=True))[-1]
    return {
        "map50_95": float(last["metrics/mAP50-95(B)"]),
        "map50": float(last["metrics/mAP50(B)"]),
        "seconds": round(float(last["time"]), 1),
    }
