"""What is reported of an engine, from its matches and its times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kd_steps.core.evaluation.average_precision import RECALLS, average_precision, mean_ap, precision_recall, ratio
from kd_steps.core.evaluation.intervals import (
    Interval,
    interval_of,
    median_paired_ratio,
    percentiles,
    ratio_interval,
    with_wilson,
)
from kd_steps.core.evaluation.matching import Matches

FloatArray = NDArray[np.float64]
PHASES = ("preprocess_ms", "inference_ms", "postprocess_ms", "total_ms")

# One healthy measurement in a hundred is refused for nothing, not one in twenty as at the gate's own level.
CONTROL_CONFIDENCE_LEVEL = 0.99
CONTROL_SAMPLES = 2000


@dataclass(frozen=True)
class Accuracy:
    """Average precision of one engine; NaN where there is no object to find.

    Attributes:
        map50_95: mean over classes and IoU 0.50:0.05:0.95.
        map50: mean over classes at IoU 0.50.
        map75: mean over classes at IoU 0.75.
        class_ap50_95: per class, over IoU 0.50:0.05:0.95, shape (classes,).
        class_ap50: per class at IoU 0.50, shape (classes,).
        n_objects: objects per class, shape (classes,).
    """

    map50_95: float
    map50: float
    map75: float
    class_ap50_95: FloatArray
    class_ap50: FloatArray
    n_objects: NDArray[np.int64]


@dataclass(frozen=True)
class ApSample:
    """Average precision of one engine on the test pictures and on resamples of them.

    Attributes:
        measured: on all pictures, shape (1, classes, 10).
        resampled: on each resample, shape (samples, classes, 10).
        n_boards: boards that the test pictures show, which the resamples draw from.
        class_boards: boards that show each class, shape (classes,).
        n_objects: objects of each class, shape (classes,).
    """

    measured: FloatArray
    resampled: FloatArray
    n_boards: int
    class_boards: NDArray[np.int64]
    n_objects: NDArray[np.int64]


def sample_ap(matches: Matches, image_counts: NDArray[np.int64], boards: Sequence[str]) -> ApSample:
    """Average precision with its resamples; ``image_counts`` is one table for all engines, which pairs them.

    Args:
        matches: of one engine.
        image_counts: from :func:`kd_steps.core.evaluation.average_precision.resample_boards`.
        boards: the board of each picture.
    """
    shown = pd.DataFrame(matches.n_objects > 0).groupby(list(boards)).any()
    return ApSample(
        measured=average_precision(matches),
        resampled=average_precision(matches, image_counts),
        n_boards=len(shown),
        class_boards=shown.sum().to_numpy(dtype=np.int64),
        n_objects=matches.n_objects.sum(axis=0),
    )


def map_ratio(engine: ApSample, teacher: ApSample, n_classes: int, confidence_level: float) -> Interval:
    """mAP50-95 of an engine against the teacher's, over the first ``n_classes`` classes of both: the base classes."""
    measured = ratio(mean_ap(engine.measured[:, :n_classes]), mean_ap(teacher.measured[:, :n_classes]))
    resampled = ratio(mean_ap(engine.resampled[:, :n_classes]), mean_ap(teacher.resampled[:, :n_classes]))
    return ratio_interval(float(measured[0]), resampled, confidence_level, engine.n_boards)


def accuracy_summary(
    base: Accuracy,
    every: Accuracy,
    class_names: Sequence[str],
    own: ApSample,
    teacher: ApSample,
    confidence_level: float,
) -> dict[str, Any]:
    """Accuracy of one engine as JSON values: over base classes, over all, against the teacher, and of each class.

    Args:
        base: over the base classes.
        every: over ``class_names``.
        class_names: base classes first.
        own: resamples over ``class_names``.
        teacher: the teacher's resamples, base classes first, on the same draws of pictures.
        confidence_level: of the intervals.
    """
    n_base = len(base.n_objects)
    intervals = class_ap50_intervals(own, confidence_level)
    return {
        "map50_95": known_or_none(base.map50_95),
        "map50": known_or_none(base.map50),
        "map75": known_or_none(base.map75),
        "map50_95_all": known_or_none(every.map50_95),
        "map_ratio": map_ratio(own, teacher, n_base, confidence_level).to_dict(),
        "per_class": {
            name: {
                "ap50_95": known_or_none(every.class_ap50_95[index]),
                "ap50": known_or_none(every.class_ap50[index]),
                "n_objects": int(every.n_objects[index]),
                "is_new": index >= n_base,
            }
            for index, name in enumerate(class_names)
        },
        "per_class_ap50_interval": {n: i.to_dict() for n, i in zip(class_names, intervals, strict=True)},
    }


def class_ap50_intervals(sample: ApSample, confidence_level: float) -> list[Interval]:
    """AP50 of each class: the bootstrap over boards, widened to what so few objects can say at all."""
    intervals = []
    for index, n_objects in enumerate(sample.n_objects):
        replicates = sample.resampled[:, index, 0]
        # A resample without an object of a rare class says nothing of it; Wilson's interval covers the small number.
        known = replicates[~np.isnan(replicates)]
        value, n = float(sample.measured[0, index, 0]), int(n_objects)
        measured = interval_of(value, known, confidence_level, n, int(sample.class_boards[index]))
        intervals.append(with_wilson(measured, confidence_level))
    return intervals


def precision_recall_table(engine: str, matches: Matches, class_names: Sequence[str]) -> pd.DataFrame:
    """Curves at IoU 0.5; columns engine, class_name, recall, precision; classes without objects are left out."""
    curves = [
        pd.DataFrame(
            {"engine": engine, "class_name": name, "recall": RECALLS, "precision": precision_recall(matches, index)}
        )
        for index, name in enumerate(class_names)
    ]
    return pd.concat(curves, ignore_index=True).dropna()


def latency_summary(
    times: pd.DataFrame,
    engine: str,
    reference: str,
    generator: np.random.Generator,
    samples: int,
    confidence_level: float,
) -> dict[str, Any]:
    """Percentiles of every phase and the paired ratio of the totals to a reference.

    Args:
        times: columns round, engine and the phases in ms; every engine once a round.
        engine: the engine to tell of.
        reference: the engine its total is compared with.
        generator: source of the resamples.
        samples: number of resamples.
        confidence_level: of the interval.
    """
    own, total_ms = times[times["engine"] == engine], _paired_total_ms(times)
    against = median_paired_ratio(total_ms[engine], total_ms[reference], generator, samples, confidence_level)
    return {
        **{phase: percentiles(own[phase].to_numpy(np.float64)) for phase in PHASES},
        "ratio_to_teacher": against.to_dict(),
        "rounds": len(own),
    }


def latency_control(times: pd.DataFrame, first: str, again: str, generator: np.random.Generator) -> dict[str, Any]:
    """One engine timed under two names: the ratio of the two must contain 1, or the machine was not steady."""
    total_ms = _paired_total_ms(times)
    control = median_paired_ratio(
        total_ms[again], total_ms[first], generator, CONTROL_SAMPLES, CONTROL_CONFIDENCE_LEVEL
    )
    ok = control.low is not None and control.high is not None and control.low <= 1 <= control.high
    return {**control.to_dict(), "ok": ok, "confidence_level": CONTROL_CONFIDENCE_LEVEL}


def latency_quantiles(times: pd.DataFrame) -> pd.DataFrame:
    """Percentiles 1 to 99 of every phase; columns engine, percentile and the phases in ms."""
    steps = np.arange(1, 100)
    tables = [
        pd.DataFrame({"engine": engine, "percentile": steps, **{p: np.quantile(own[p], steps / 100) for p in PHASES}})
        for engine, own in times.groupby("engine", sort=False)
    ]
    return pd.concat(tables, ignore_index=True)


def known_or_none(number: float) -> float | None:
    """JSON has no NaN: what is unknown is null."""
    return float(number) if math.isfinite(number) else None


def _paired_total_ms(times: pd.DataFrame) -> dict[str, FloatArray]:
    """Total times of each engine, in the order of the rounds."""
    wide = times.pivot(index="round", columns="engine", values="total_ms").sort_index()
    return {str(engine): wide[engine].to_numpy(np.float64) for engine in wide.columns}
