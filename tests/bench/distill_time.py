"""What an epoch costs: Ultralytics' default, plain, natively distilled, distilled from a live teacher, from a cache.

``RETORT_DEEPPCB=… python tests/bench/distill_time.py [pictures] [rounds]`` runs all in turn on the same pictures, so
that a busy machine slows all alike, and writes ``tests/bench/results/distill_time.json``. Each time is that of a
second epoch without validation, in a process of its own; the whole job is put together from its parts.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import distill_setting as setting
from train_speed import in_own_process, timed

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "tests/bench/results/distill_time.json"
EPOCHS = 2
JOB_EPOCHS = 30
# Those that are compared most closely stand side by side.
KINDS = ("default", "default-native", "native", "live", "cache", "precise", "precise-updates", "cached", "plain")


def ultralytics_seconds(kind: str, params: Any, pictures: list[Any], folder: Path) -> float:
    """Seconds of an epoch of Ultralytics' own trainer, order and views."""
    from distill_native import PreciseTrainer, default_trainer
    from ultralytics.models.yolo.detect import DetectionTrainer

    changes = {
        "default-native": {"distill_model": str(setting.TEACHER / "weights.pt")},
        "precise-updates": {"nbs": params.distill.training.nominal_batch},
    }.get(kind, {})
    trainer = PreciseTrainer if kind.startswith("precise") else DetectionTrainer
    return timed(default_trainer(params, pictures, pictures[:16], folder, trainer, **changes))


def seconds_of(kind: str, pictures: list[Any], folder: Path) -> float:
    """Seconds of one epoch, or, of ``cache``, of one view answered."""
    from distill_arms import training_run
    from distill_native import NativeTrainer

    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer
    from kd_steps.jobs.cache_filling import fill
    from kd_steps.jobs.cache_setting import cache_header, distillation_plan
    from kd_steps.jobs.student_training import distillation_of

    params = setting.parameters(0, EPOCHS)
    sidecar, model = setting.teacher()
    if kind.startswith(("default", "precise")):
        return ultralytics_seconds(kind, params, pictures, folder)
    fresh = fresh_views_plan(params.distill)
    if kind == "native":
        run = training_run(params, pictures, fresh, folder)
        return timed(
            NativeTrainer(replace(run, options={**run.options, "distill_model": str(setting.TEACHER / "weights.pt")}))
        )
    if kind == "live":
        distillation = distillation_of(params, model, live=frozen(params, model).answer)
        return timed(RetortTrainer(training_run(params, pictures, fresh, folder, distillation)))
    if kind == "plain":
        return timed(RetortTrainer(training_run(params, pictures, fresh, folder)))
    from kd_steps.adapters.cache.store import TeacherCache

    plan = distillation_plan(params)
    header = cache_header(params, plan, sidecar, model, "timing")
    started = time.perf_counter()
    keys, forwards = fill(params, folder / "cache", header, model, pictures, plan)
    if kind == "cache":
        return (time.perf_counter() - started) / forwards
    distillation = distillation_of(params, model, cached=TeacherCache(folder / "cache", header, keys))
    return timed(RetortTrainer(training_run(params, pictures, plan, folder, distillation)))


def ratios(times: dict[str, list[float]], pictures: int) -> dict[str, Any]:
    """The ratios that the benchmark is about, round by round."""
    from kd_steps.core.detect.views import plan_views

    plan = plan_views(JOB_EPOCHS, setting.RECIPE["close_mosaic_fraction"])
    build = (plan.views + plan.closing_views) * pictures  # views of a picture, in a job of as many pictures

    def paired(a: list[float], b: list[float]) -> dict[str, Any]:
        each = [round(x / y, 3) for x, y in zip(a, b, strict=True)]
        return {"median": statistics.median(each), "rounds": each}

    job = [JOB_EPOCHS * epoch + build * view for epoch, view in zip(times["cached"], times["cache"], strict=True)]
    return {
        "cached_epoch_over_plain": paired(times["cached"], times["plain"]),
        "cached_epoch_over_ultralytics_at_our_precision": paired(times["cached"], times["precise"]),
        "cached_epoch_over_ultralytics_at_our_precision_and_updates": paired(times["cached"], times["precise-updates"]),
        "live_epoch_over_plain": paired(times["live"], times["plain"]),
        "native_epoch_over_plain": paired(times["native"], times["plain"]),
        "default_epoch_over_ours": paired(times["default"], times["plain"]),
        "native_job_over_ours": paired([JOB_EPOCHS * t for t in times["default-native"]], job),
        "native_job_at_our_precision_over_ours": paired([JOB_EPOCHS * t for t in times["native"]], job),
        "cache_build_in_plain_epochs": paired([build * t for t in times["cache"]], times["plain"]),
        "job": {"epochs": JOB_EPOCHS, "views": plan.views, "closing_views": plan.closing_views},
    }


def main() -> None:
    """Time all kinds in turn and write what was found."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    pictures = setting.pictures("train")[:count]
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                times[kind].append(in_own_process(seconds_of, kind, pictures, Path(folder)))
            print(f"round {number + 1}, {kind}: {times[kind][-1]:.4f} s", flush=True)
    result = {"pictures": count, "seconds": times, "ratios": ratios(times, count)}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["ratios"], indent=2))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from kd_steps.stage_entry import set_environment

    set_environment(ROOT)
    main()
