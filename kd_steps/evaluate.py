"""Stage `evaluate`: every engine through the shipped edge runtime → accuracy, false alarms, latency and size."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd_steps.adapters.files import atomic_path, write_json
from kd_steps.core.evaluation.average_precision import false_alarms, resample_boards
from kd_steps.core.evaluation.engine_summary import (
    ApSample,
    accuracy_summary,
    latency_control,
    latency_quantiles,
    latency_summary,
    precision_recall_table,
    sample_ap,
)
from kd_steps.core.evaluation.evaluation_set import EvaluationSet, evaluation_set
from kd_steps.core.evaluation.intervals import mean_count_interval
from kd_steps.core.evaluation.matching import Matches, match_detections
from kd_steps.edge.manifest import Manifest, read_manifest
from kd_steps.params import Params, load_params
from kd_steps.stage_entry import run_stage

PREPARED, ENGINES, EVALUATION = Path("data/prepared"), Path("models/engines"), Path("evaluation")
TEACHER, TEACHER_AGAIN = "teacher", "teacher-again"
LATENCY_PICTURES = 64  # held in memory while the engines are timed
LATENCY_ATTEMPTS = 2  # a control that fails once may be chance or a neighbour's burst; twice is the machine


def main() -> None:
    """Judge and time all engines in ``models/engines``; write tables, plots and ``metrics/engines.json``."""
    params = load_params()
    manifests = read_manifests()
    test = read_evaluation_set(manifests)
    drop_stale(EVALUATION / "detections", set(manifests))
    detections = {name: find(name, manifest, test, params) for name, manifest in manifests.items()}
    times, control = measure_latency(manifests, test, params)

    draws = np.random.default_rng(params.seed)
    boards = test.boards("test")
    counts = resample_boards(boards, params.evaluate.bootstrap_samples, draws)
    matches = {name: match(detections[name], manifest, test) for name, manifest in manifests.items()}
    samples = {name: sample_ap(matches[name], counts, boards) for name in manifests}
    entries = {
        name: {
            **identity(manifest),
            **accuracy(manifest, test, detections[name], samples[name], samples[TEACHER], params),
            "false_alarms_per_picture": alarms(test, detections[name], params),
            "latency": latency(times, name, params),
            "latency_control": control,
            "confidence_level": params.gate.confidence_level,
        }
        for name, manifest in manifests.items()
    }
    write_tables(times, curves(matches, manifests, test), test)
    write_json(Path("metrics/engines.json"), entries)


def read_manifests() -> dict[str, Manifest]:
    """Manifests of all engines, the teacher first, the rest by name.

    Raises:
        FileNotFoundError: the teacher's engine is missing.
    """
    folders = sorted(p for p in ENGINES.glob("[!.]*") if p.is_dir() and p.name != TEACHER)
    return {folder.name: read_manifest(folder) for folder in (ENGINES / TEACHER, *folders)}


def read_evaluation_set(manifests: dict[str, Manifest]) -> EvaluationSet:
    """The prepared test and defect-free pictures, checked against what the engines know."""
    from kd_steps.adapters.data.reader import load_prepared

    data = load_prepared(PREPARED)
    known = {name: (manifest.classes, manifest.new_classes) for name, manifest in manifests.items()}
    return evaluation_set(data.images, data.boxes, (data.classes, data.new_classes), data.digest, known)


def find(name: str, manifest: Manifest, test: EvaluationSet, params: Params) -> pd.DataFrame:
    """Detections of one engine, from an earlier run where that one finished them."""
    from kd_steps.adapters.engines.runs import detect_all, detections_fingerprint, detections_of
    from kd_steps.adapters.parallel import available_cores
    from kd_steps.edge.golden import check_golden

    knobs, folder = params.evaluate, ENGINES / name
    check_golden(folder)  # an engine that gives other outputs than when it was built is not that engine
    detect = partial(
        detect_all,
        folder,
        test.pictures,
        PREPARED,
        test.class_names,
        confidence=knobs.confidence,
        iou=knobs.nms_iou,
        max_detections=knobs.max_detections,
    )
    return detections_of(
        EVALUATION / "detections" / f"{name}.parquet",
        detections_fingerprint(folder, manifest, test.digest, test.class_names, detect.keywords),
        partial(detect, workers=available_cores()),
    )


def drop_stale(folder: Path, engines: set[str]) -> None:
    """Remove detections of engines that are no longer built, and what a kill left half written."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.stem not in engines:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def measure_latency(
    manifests: dict[str, Manifest], test: EvaluationSet, params: Params
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Times of all engines and of the teacher once more, and the control those two give."""
    from kd_steps.adapters.engines.runs import time_engines

    knobs = params.evaluate
    folders = {name: ENGINES / name for name in manifests} | {TEACHER_AGAIN: ENGINES / TEACHER}
    pictures = test.pictures.loc[test.pictures["split"] == "test", "path"].head(LATENCY_PICTURES)
    attempt, control = 0, {"ok": False}
    while not control["ok"] and attempt < LATENCY_ATTEMPTS:
        attempt += 1
        times = time_engines(
            folders,
            [PREPARED / path for path in pictures],
            confidence=knobs.operating_confidence,
            iou=knobs.nms_iou,
            max_detections=knobs.max_detections,
            seed=params.seed,
            **knobs.latency.model_dump(),
        )
        control = latency_control(times, TEACHER, TEACHER_AGAIN, np.random.default_rng([params.seed, 1]))
    return times, {**control, "attempts": attempt}


def match(detections: pd.DataFrame, manifest: Manifest, test: EvaluationSet) -> Matches:
    """Matches of one engine on the test pictures, over the classes it is judged on."""
    class_ids = test.class_ids(test.judged_classes(manifest.new_classes))
    return match_detections(test.objects, detections, test.image_ids("test"), class_ids)


def identity(manifest: Manifest) -> dict[str, Any]:
    """What the engine is, and its size without the self-test. It ran here, which verifies it on this machine."""
    sizes = [file.bytes for name, file in manifest.files.items() if name != manifest.golden.file]
    return {
        "target": manifest.target,
        "state": "verified-device",
        "role": manifest.role,
        "parameters": manifest.parameters,
        "bytes": sum(sizes),
    }


def accuracy(
    manifest: Manifest, test: EvaluationSet, detections: pd.DataFrame, own: ApSample, teacher: ApSample, params: Params
) -> dict[str, Any]:
    """Average precision of one engine; the mean over base and new classes is told of students only."""
    from kd_steps.adapters.coco_evaluator import evaluate_coco

    names, images = test.judged_classes(manifest.new_classes), test.image_ids("test")
    base, every = (
        evaluate_coco(test.objects, detections, images, test.class_ids(classes), params.evaluate.max_detections)
        for classes in (test.base_classes, names)
    )
    summary = accuracy_summary(base, every, names, own, teacher, params.gate.confidence_level)
    return summary | ({"map50_95_all": None} if manifest.role == TEACHER else {})


def alarms(test: EvaluationSet, detections: pd.DataFrame, params: Params) -> dict[str, float | int | None]:
    """False alarms per defect-free picture at the confidence the line acts on."""
    counts = false_alarms(detections, test.image_ids("defect_free"), params.evaluate.operating_confidence)
    boards, draws = test.boards("defect_free"), np.random.default_rng([params.seed, 3])
    weights = resample_boards(boards, params.evaluate.bootstrap_samples, draws)
    return mean_count_interval(counts, weights, len(set(boards)), params.gate.confidence_level).to_dict()


def latency(times: pd.DataFrame, name: str, params: Params) -> dict[str, Any]:
    """Latency of one engine; the teacher's ratio is that of its second timing to its first."""
    timed = TEACHER_AGAIN if name == TEACHER else name
    draws, samples = np.random.default_rng([params.seed, 2]), params.evaluate.bootstrap_samples
    summary = latency_summary(times, timed, TEACHER, draws, samples, params.gate.confidence_level)
    return {**summary, "threads": params.evaluate.latency.threads}


def curves(matches: dict[str, Matches], manifests: dict[str, Manifest], test: EvaluationSet) -> pd.DataFrame:
    """Precision-recall curves of all engines and classes."""
    tables = [
        precision_recall_table(name, matches[name], test.judged_classes(manifest.new_classes))
        for name, manifest in manifests.items()
    ]
    return pd.concat(tables, ignore_index=True)


def write_tables(times: pd.DataFrame, curve_table: pd.DataFrame, test: EvaluationSet) -> None:
    """Write the tables of ``evaluation/`` and the plots: mean curve over base classes, latency by percentile."""
    base = curve_table[curve_table["class_name"].isin(test.base_classes)]
    mean = base.groupby(["engine", "recall"], sort=False)["precision"].mean().reset_index()
    for name, parquet in {"latency": times, "curves": curve_table}.items():
        with atomic_path(EVALUATION / f"{name}.parquet") as temporary:
            parquet.to_parquet(temporary, index=False)
    for name, plot in {"precision_recall": mean, "latency": latency_quantiles(times)}.items():
        with atomic_path(Path("plots") / f"{name}.csv") as temporary:
            plot.to_csv(temporary, index=False)


if __name__ == "__main__":
    run_stage(main)
