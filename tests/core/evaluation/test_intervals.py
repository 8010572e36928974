from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.evaluation.average_precision import resample_boards
from kd_steps.core.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    interval_of,
    mean_count_interval,
    median_paired_ratio,
    percentiles,
    poisson_interval,
    wilson_interval,
    with_wilson,
)

LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99])


def median(values: np.ndarray) -> np.ndarray:
    return np.median(values, axis=-1)


@given(count=st.integers(0, 3000), level=LEVELS)
def test_poisson_interval_is_garwoods(count: int, level: float) -> None:
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else scipy.stats.chi2.ppf(tail, 2 * count) / 2
    high = scipy.stats.chi2.ppf(1 - tail, 2 * count + 2) / 2
    assert poisson_interval(count, level) == pytest.approx((low, high), rel=1e-9)


@given(hits=st.integers(0, 400), misses=st.integers(0, 400), level=LEVELS)
def test_wilson_interval_is_scipys(hits: int, misses: int, level: float) -> None:
    n = hits + misses
    if n == 0:
        return
    theirs = scipy.stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    assert wilson_interval(hits / n, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_bootstrap_interval_agrees_with_scipys() -> None:
    values = np.random.default_rng(1).lognormal(size=200)
    ours = bootstrap_interval(values, median, np.random.default_rng(2), 5000, 0.95)
    theirs = scipy.stats.bootstrap(
        (values,), np.median, method="percentile", n_resamples=5000, random_state=np.random.default_rng(3)
    ).confidence_interval
    assert ours.value == np.median(values)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert ours.n == 200


def test_bootstrap_interval_follows_its_generator() -> None:
    values = np.random.default_rng(1).normal(size=30)
    first = bootstrap_interval(values, median, np.random.default_rng(2), 200, 0.9)
    assert first == bootstrap_interval(values, median, np.random.default_rng(2), 200, 0.9)
    assert first != bootstrap_interval(values, median, np.random.default_rng(5), 200, 0.9)


def test_median_paired_ratio_holds_where_load_moves_both() -> None:
    generator = np.random.default_rng(0)
    load = generator.uniform(1, 6, 300)
    reference_ms = 10 * load * generator.normal(1, 0.02, 300)
    candidate_ms = 4 * load * generator.normal(1, 0.02, 300)
    ratio = median_paired_ratio(candidate_ms, reference_ms, generator, 500, 0.95)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 0.4 < ratio.high
    assert ratio.high - ratio.low < 0.01


def test_median_paired_ratio_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        reference_ms = generator.lognormal(2, 0.2, 100)
        candidate_ms = reference_ms * generator.lognormal(0, 0.1, 100)
        ratio = median_paired_ratio(candidate_ms, reference_ms, generator, 400, 0.95)
        assert ratio.low is not None
        assert ratio.high is not None
        covered += ratio.low <= 1 <= ratio.high
    assert 0.88 < covered / 200 <= 1


@pytest.mark.parametrize(
    ("candidate_ms", "reference_ms", "message"),
    [(np.ones(3), np.ones(2), "one shape"), (np.ones(2), np.array([1.0, 0.0]), "above 0")],
)
def test_median_paired_ratio_refuses_times_that_are_no_pairs(
    candidate_ms: np.ndarray, reference_ms: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        median_paired_ratio(candidate_ms, reference_ms, np.random.default_rng(0), 100, 0.95)


def test_no_measurement_is_unknown_and_an_undefined_replicate_leaves_the_ends_unknown() -> None:
    generator = np.random.default_rng(0)
    nothing = bootstrap_interval(np.array([]), median, generator, 100, 0.95)
    assert nothing == Interval(None, None, None, 0)
    empty = np.array([], dtype=np.int64)
    assert mean_count_interval(empty, np.zeros((100, 0), dtype=np.int64), 0, 0.95) == nothing
    for boards in (1, 2, 3):
        assert interval_of(1.0, np.ones(5), 0.95, 4, boards) == Interval(1.0, None, None, 4), (
            "they tell nothing of others"
        )
    assert interval_of(float("nan"), np.ones(5), 0.95, 4, 4) == Interval(None, None, None, 4)
    assert interval_of(1.0, np.array([1.0, np.nan]), 0.95, 4, 4) == Interval(1.0, None, None, 4)
    assert with_wilson(Interval(None, None, None, 0), 0.95) == nothing


def test_silence_on_few_boards_does_not_prove_silence() -> None:
    interval = mean_count_interval(np.zeros(10, dtype=np.int64), weights_of(range(10)), 10, 0.95)
    assert interval.value == 0
    assert interval.low == 0
    assert interval.high == pytest.approx(0.3689, abs=1e-4)


def test_clumped_counts_widen_the_interval_beyond_poisson() -> None:
    counts = np.array([0] * 19 + [40], dtype=np.int64)
    interval = mean_count_interval(counts, weights_of(range(20)), 20, 0.95)
    low, high = poisson_interval(40, 0.95)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < low / 20
    assert interval.high > high / 20


def weights_of(boards: Iterable[object], samples: int = 500, seed: int = 0) -> np.ndarray:
    return resample_boards([str(board) for board in boards], samples, np.random.default_rng(seed))


def test_alarms_that_go_with_boards_are_covered_as_often_as_it_says() -> None:
    """Ten boards of twenty pictures; how often a board is alarmed at is the board's own."""
    generator, pictures = np.random.default_rng(3), 20
    boards, alone = np.repeat(np.arange(10), pictures), np.arange(200)
    covered = {"boards": 0, "pictures": 0}
    for run in range(200):
        counts = generator.poisson(np.repeat(generator.gamma(0.5, 0.8, 10), pictures)).astype(np.int64)
        for name, units in (("boards", boards), ("pictures", alone)):
            found = mean_count_interval(counts, weights_of(units, 300, run), len(set(units)), 0.95)
            assert found.low is not None
            assert found.high is not None
            covered[name] += found.low <= 0.4 <= found.high
    assert covered["boards"] / 200 > 0.85  # skewed rates; means of ten do not reach 95 %
    assert covered["pictures"] / 200 < 0.7, "pictures of a board are no independent draws"


@pytest.mark.parametrize("boards", [2, 3, 4, 6])
def test_few_boards_that_happen_to_be_silent_do_not_pass_too_often(boards: int) -> None:
    """Each picture of six boards in ten raises an alarm; the limit is 0.5 a picture."""
    generator, passed = np.random.default_rng(boards), 0
    units = np.repeat(np.arange(boards), 30)
    for run in range(400):
        counts = np.repeat(generator.random(boards) < 0.6, 30).astype(np.int64)
        high = mean_count_interval(counts, weights_of(units, 200, run), boards, 0.95).high
        passed += high is not None and high < 0.5
    assert passed / 400 < 0.025 + 0.016  # two standard errors of 400 runs


@pytest.mark.parametrize("n", [4, 5, 10])
def test_a_few_units_are_covered_as_often_as_it_says(n: int) -> None:
    generator, covered = np.random.default_rng(n), 0
    for _ in range(400):
        interval = bootstrap_interval(
            generator.normal(1, 1, n), lambda values: np.mean(values, axis=-1), generator, 1000, 0.95
        )
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 1 <= interval.high
    assert covered / 400 > 0.92


@given(value=st.floats(0, 1), n=st.integers(1, 500), level=LEVELS)
def test_wilson_only_widens(value: float, n: int, level: float) -> None:
    widened = with_wilson(Interval(value, value, value, n), level)
    assert widened.low is not None
    assert widened.high is not None
    assert widened.low <= value <= widened.high
    assert widened.high - widened.low > 0


def test_percentiles_are_numpys_quantiles() -> None:
    assert percentiles(np.arange(101.0)) == {"p50": 50.0, "p90": 90.0, "p99": 99.0}


def test_median_paired_ratio_does_not_see_a_hiccup_of_a_few_rounds() -> None:
    reference_ms = np.random.default_rng(0).uniform(10, 20, 100)
    candidate_ms = 0.4 * reference_ms
    candidate_ms[:5] *= 50
    ratio = median_paired_ratio(candidate_ms, reference_ms, np.random.default_rng(1), 500, 0.95)
    assert (ratio.value, ratio.high) == pytest.approx((0.4, 0.4))


def test_no_interval_reaches_beyond_what_the_quantity_can_be() -> None:
    counts = np.array([0] * 19 + [40], dtype=np.int64)
    assert mean_count_interval(counts, weights_of(range(20)), 20, 0.95).low == 0
    found = with_wilson(Interval(0.9, -0.2, 1.4, 5), 0.95)
    assert (found.low, found.high) == (0, 1)


def test_the_sample_of_a_mean_count_is_its_boards() -> None:
    weights = weights_of(i // 4 for i in range(20))
    assert mean_count_interval(np.zeros(20, dtype=np.int64), weights, 5, 0.95).n == 5
