"""Measurement bundles are judged: accuracy, false alarms, latency and size of each engine, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kd_steps.adapters.coco_evaluator import evaluate_coco
from kd_steps.adapters.engines.bundles import detections_table, times_table
from kd_steps.adapters.files import atomic_path
from kd_steps.artifacts import paths
from kd_steps.core.evaluation.average_precision import false_alarms, resample_boards
from kd_steps.core.evaluation.engine_summary import (
    ApSample,
    accuracy_summary,
    latency_quantiles,
    latency_summary,
    precision_recall_table,
    sample_ap,
)
from kd_steps.core.evaluation.evaluation_set import EvaluationSet
from kd_steps.core.evaluation.intervals import mean_count_interval
from kd_steps.core.evaluation.matching import Matches, match_detections
from kd_steps.jobs.measure_engines import HERE, TEACHER, TEACHER_AGAIN, Measured, control_of
from kd_steps.params.evaluate import Evaluate


@dataclass(frozen=True)
class Judgement:
    """What is told of all engines.

    Attributes:
        entries: name → its entry of the engine report, the teacher first.
        detections: name → its detections on the test and defect-free pictures.
        curves: precision over recall; columns engine, class_name, recall, precision.
        times: latency rounds; columns round, engine and the phases in ms; the teacher's repetition among the engines.
    """

    entries: dict[str, dict[str, Any]]
    detections: dict[str, pd.DataFrame]
    curves: pd.DataFrame
    times: pd.DataFrame


def judge_engines(
    measured: Sequence[Measured], test: EvaluationSet, knobs: Evaluate, confidence_level: float, seed: int
) -> Judgement:
    """Judge engines from their bundles alone.

    Args:
        measured: the teacher first.
        test: pictures and objects.
        knobs: thresholds and the number of resamples.
        confidence_level: of every interval.
        seed: of the resamples.
    """
    boards = test.boards("test")
    counts = resample_boards(boards, knobs.bootstrap_samples, np.random.default_rng(seed))
    detections = {m.name: _detections(m, test) for m in measured}
    matches = {m.name: _match(detections[m.name], m, test) for m in measured}
    samples = {name: sample_ap(own, counts, boards) for name, own in matches.items()}
    entries = {
        m.name: {
            **_identity(m),
            **_accuracy(m, test, detections[m.name], samples[m.name], samples[TEACHER], knobs, confidence_level),
            "false_alarms_per_picture": _alarms(test, detections[m.name], knobs, confidence_level, seed),
            "latency": _latency(m, knobs, confidence_level, seed),
            "latency_control": {**control_of(m.bundle, seed), "attempts": m.bundle.note.attempts},
            "confidence_level": confidence_level,
        }
        for m in measured
    }
    curves = [precision_recall_table(m.name, matches[m.name], _judged(m, test)) for m in measured]
    own_times = [times_table(m.bundle, (m.name, TEACHER, TEACHER_AGAIN)) for m in measured]
    times = [table[table["engine"] == m.name] for m, table in zip(measured[1:], own_times[1:], strict=True)]
    return Judgement(
        entries,
        detections,
        pd.concat(curves, ignore_index=True),
        pd.concat([own_times[0], *times], ignore_index=True),
    )


def write_tables(judgement: Judgement, base_classes: Sequence[str]) -> None:
    """Write the tables that the dossier shows, and the plots: mean curve over base classes, latency by percentile."""
    base = judgement.curves[judgement.curves["class_name"].isin(base_classes)]
    mean = base.groupby(["engine", "recall"], sort=False)["precision"].mean().reset_index()
    tables = {paths.detections(name): table for name, table in judgement.detections.items()}
    for stale in set(paths.DETECTIONS.glob("*")) - tables.keys():
        stale.unlink()
    for path, table in {**tables, paths.LATENCY: judgement.times, paths.CURVES: judgement.curves}.items():
        with atomic_path(path) as temporary:
            table.to_parquet(temporary, index=False)
    for path, plot in {paths.CURVES_PLOT: mean, paths.LATENCY_PLOT: latency_quantiles(judgement.times)}.items():
        with atomic_path(path) as temporary:
            plot.to_csv(temporary, index=False)


def _judged(measured: Measured, test: EvaluationSet) -> list[str]:
    return test.judged_classes(measured.manifest.new_classes)


def _detections(measured: Measured, test: EvaluationSet) -> pd.DataFrame:
    table = detections_table(measured.bundle, measured.manifest.classes, test.class_names)
    return table[table["split"].isin(["test", "defect_free"])].reset_index(drop=True)


def _match(detections: pd.DataFrame, measured: Measured, test: EvaluationSet) -> Matches:
    """Matches of one engine on the test pictures, over the classes it is judged on."""
    class_ids = test.class_ids(_judged(measured, test))
    return match_detections(test.objects, detections, test.image_ids("test"), class_ids)


def _identity(measured: Measured) -> dict[str, Any]:
    """What the engine is, its size without the self-test, and where it ran."""
    manifest, note = measured.manifest, measured.bundle.note
    return {
        "target": manifest.target,
        # What ran here is verified here; who ran it elsewhere, nobody has signed for.
        "state": "verified-device" if measured.where == HERE else "measured",
        "role": manifest.role,
        "engine_digest": note.engine_digest,
        "parameters": manifest.parameters,
        "bytes": sum(file.bytes for name, file in manifest.files.items() if name != manifest.golden.file),
        "measured": {
            "where": measured.where,
            "cpu_model": note.machine["cpu_model"],
            "cores": note.machine["cores"],
            "load_per_core": note.load_per_core,
            "golden_error": note.golden_error,
        },
    }


def _accuracy(
    measured: Measured,
    test: EvaluationSet,
    detections: pd.DataFrame,
    own: ApSample,
    teacher: ApSample,
    knobs: Evaluate,
    confidence_level: float,
) -> dict[str, Any]:
    """Average precision of one engine; the mean over base and new classes is told of students only."""
    names, images = _judged(measured, test), test.image_ids("test")
    base, every = (
        evaluate_coco(test.objects, detections, images, test.class_ids(classes), knobs.max_detections)
        for classes in (test.base_classes, names)
    )
    summary = accuracy_summary(base, every, names, own, teacher, confidence_level)
    return summary | ({"map50_95_all": None} if measured.manifest.role == TEACHER else {})


def _alarms(
    test: EvaluationSet, detections: pd.DataFrame, knobs: Evaluate, confidence_level: float, seed: int
) -> dict[str, float | int | None]:
    """False alarms per defect-free picture at the confidence the line acts on."""
    counts = false_alarms(detections, test.image_ids("defect_free"), knobs.operating_confidence)
    boards, draws = test.boards("defect_free"), np.random.default_rng([seed, 3])
    weights = resample_boards(boards, knobs.bootstrap_samples, draws)
    return mean_count_interval(counts, weights, len(set(boards)), confidence_level).to_dict()


def _latency(measured: Measured, knobs: Evaluate, confidence_level: float, seed: int) -> dict[str, Any]:
    """Latency of one engine; the teacher's ratio is that of its second timing to its first."""
    times = times_table(measured.bundle, (measured.name, TEACHER, TEACHER_AGAIN))
    timed = TEACHER_AGAIN if measured.name == TEACHER else measured.name
    draws = np.random.default_rng([seed, 2])
    summary = latency_summary(times, timed, TEACHER, draws, knobs.bootstrap_samples, confidence_level)
    return {**summary, "threads": knobs.latency.threads}
