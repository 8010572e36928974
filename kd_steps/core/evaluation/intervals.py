"""Intervals: what a measurement says about the next picture or the next round, not only about this one.

Randomness comes from a generator that the caller seeds, so the same measurements give the same interval.
"""

from __future__ import annotations

import math
import statistics as stdlib_statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
LEAST_UNITS = 4  # of two or three that happen to agree, neither resamples nor t know that others differ


@dataclass(frozen=True)
class Interval:
    """A measured value with its confidence interval; None where nothing could be measured.

    Attributes:
        value: the point estimate.
        low: lower end of the interval.
        high: upper end of the interval.
        n: size of the sample behind it (pictures, objects, boards or rounds).
    """

    value: float | None
    low: float | None
    high: float | None
    n: int | None

    def to_dict(self) -> dict[str, float | int | None]:
        """JSON values; :class:`Interval` of them gives it back."""
        return asdict(self)


def interval_of(value: float, replicates: FloatArray, confidence_level: float, n: int, units: int) -> Interval:
    """The wider at each end of two intervals: the replicates' percentiles, and Student's t with their spread.

    Resamples of a few units never reach beyond the outermost, so that their percentiles are far too narrow (Hesterberg,
    "What Teachers Should Know About the Bootstrap", Am. Stat. 69, 2015, §5); t knows how few they are. Two or three
    units tell nothing of others: where they agree, neither has any width. A replicate that could not be computed (NaN,
    such as a ratio to nothing) leaves the ends unknown: dropping it would narrow the interval exactly where the sample
    is too small.

    Args:
        value: the statistic of the whole sample; NaN where it is undefined.
        replicates: the statistic of each resample, shape (b,).
        confidence_level: such as 0.95.
        n: sample size to report.
        units: how many were drawn from, independent of one another.
    """
    from scipy.special import stdtrit  # too slow to import for all that only needs an Interval

    if not math.isfinite(value):
        return Interval(None, None, None, n)
    if units < LEAST_UNITS or replicates.size == 0 or not np.isfinite(replicates).all():
        return Interval(float(value), None, None, n)
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    # The spread of resamples is that of the units divided by their number, not by one less.
    standard_error = float(np.std(replicates)) * math.sqrt(units / (units - 1))
    reach = float(stdtrit(units - 1, 1 - tail)) * standard_error
    return _hull(Interval(float(value), float(low), float(high), n), value - reach, value + reach)


def bootstrap_interval(
    values: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    generator: np.random.Generator,
    samples: int,
    confidence_level: float,
) -> Interval:
    """Bootstrap of a statistic (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, §13).

    Args:
        values: the sample, shape (n,).
        statistic: reduces the last axis, so that (b, n) gives (b,).
        generator: source of the resamples.
        samples: number of resamples, b.
        confidence_level: such as 0.95.
    """
    n = len(values)
    if n == 0:
        return Interval(None, None, None, 0)
    replicates = statistic(values[generator.integers(0, n, size=(samples, n))])
    return interval_of(float(statistic(values)), np.asarray(replicates, dtype=np.float64), confidence_level, n, n)


def median_paired_ratio(
    candidate_ms: FloatArray,
    reference_ms: FloatArray,
    generator: np.random.Generator,
    samples: int,
    confidence_level: float,
) -> Interval:
    """Median over rounds of candidate / reference, each pair timed in one round.

    Other load on the machine slows both members of a pair, so it cancels here while it moves every absolute time.

    Args:
        candidate_ms: times of the candidate, shape (rounds,), ms.
        reference_ms: times of the reference in the same rounds, shape (rounds,), ms, above 0.
        generator: source of the resamples.
        samples: number of resamples.
        confidence_level: such as 0.95.

    Raises:
        ValueError: the two arrays are not of one length, or a reference time is not positive.
    """
    if candidate_ms.shape != reference_ms.shape:
        raise ValueError(f"paired times must have one shape, got {candidate_ms.shape} and {reference_ms.shape}")
    if reference_ms.size and not (reference_ms > 0).all():
        raise ValueError("reference times must be above 0 ms")
    return bootstrap_interval(
        candidate_ms / reference_ms, lambda ratios: np.median(ratios, axis=-1), generator, samples, confidence_level
    )


def mean_count_interval(
    counts: NDArray[np.int64], weights: NDArray[np.int64], boards: int, confidence_level: float
) -> Interval:
    """Mean count per picture, with the wider of two intervals at each end.

    The exact Poisson interval knows that no event on ten pictures does not mean none ever; the bootstrap knows that
    events come in clumps, which Poisson denies: one board of a kind raises an alarm as the next does.

    Args:
        counts: events on each picture, shape (n,).
        weights: how often each picture counts in each resample, shape (samples, n).
        boards: how many boards the resamples draw from.
        confidence_level: such as 0.95.
    """
    n = len(counts)
    if n == 0:
        return Interval(None, None, None, 0)
    resampled = interval_of(
        float(counts.mean()), (weights @ counts) / weights.sum(axis=1), confidence_level, boards, boards
    )
    low, high = poisson_interval(int(counts.sum()), confidence_level)
    return _within(_hull(resampled, low / n, high / n), 0, math.inf)


def ratio_interval(value: float, replicates: FloatArray, confidence_level: float, boards: int) -> Interval:
    """:func:`interval_of` for a ratio of what cannot be negative, drawn by boards."""
    return _within(interval_of(value, replicates, confidence_level, boards, boards), 0, math.inf)


def with_wilson(interval: Interval, confidence_level: float) -> Interval:
    """Widen the interval of a mean of n values in [0, 1] to at least Wilson's score interval for n trials.

    Average precision is such a mean: over the objects, the precision at which each was found, 0 if it was not. A
    bootstrap of three objects that were all found has no spread at all; Wilson (J. Am. Stat. Assoc. 22, 1927) has.
    """
    if interval.value is None or interval.low is None or not interval.n:
        return interval
    low, high = wilson_interval(interval.value, interval.n, confidence_level)
    return _within(_hull(interval, low, high), 0, 1)


def wilson_interval(share: float, n: int, confidence_level: float) -> tuple[float, float]:
    """Wilson's score interval of a share of n trials."""
    z = stdlib_statistics.NormalDist().inv_cdf((1 + confidence_level) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def poisson_interval(count: int, confidence_level: float) -> tuple[float, float]:
    """Exact (Garwood, Biometrika 28, 1936) interval of a Poisson mean after ``count`` events."""
    from scipy.special import gammaincinv  # a Poisson tail is a Gamma's: too slow to import for all

    tail = (1 - confidence_level) / 2
    low = float(gammaincinv(count, tail)) if count else 0.0
    return low, float(gammaincinv(count + 1, 1 - tail))


def percentiles(values: FloatArray) -> dict[str, float]:
    """p50, p90 and p99 of a sample that is not empty."""
    p50, p90, p99 = np.quantile(values, [0.5, 0.9, 0.99])
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99)}


def _hull(interval: Interval, low: float, high: float) -> Interval:
    """The interval stretched to hold ``low`` and ``high``."""
    if interval.low is None or interval.high is None:
        return interval
    return Interval(interval.value, min(interval.low, low), max(interval.high, high), interval.n)


def _within(interval: Interval, least: float, most: float) -> Interval:
    """The interval cut to what the quantity can be."""
    if interval.low is None or interval.high is None:
        return interval
    return Interval(interval.value, max(interval.low, least), min(interval.high, most), interval.n)
