"""What the distillation benchmark claims: its intervals, its verdicts, and the file of results that is committed."""

import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

SCORES = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=6)


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(Path(__file__).parent / "bench"), *sys.path])
        import distill

        yield distill


def run(arm, seed, score, **more):
    return {"arm": arm, "seed": seed, "epochs": 20, "labels": 1000, "map50_95": score, "map50": 0.9, **more}


@given(SCORES)
def test_the_interval_is_that_of_the_paired_t_test(benchmark, pairs):
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    found = benchmark.paired_interval(a, b)
    if len({round(x - y, 9) for x, y in pairs}) == 1:
        assert found["low"] == found["high"] == found["mean"]
        return
    oracle = ttest_rel(a, b).confidence_interval(0.95)
    assert found["low"] == pytest.approx(oracle.low, abs=0.01)
    assert found["high"] == pytest.approx(oracle.high, abs=0.01)


def test_only_seeds_that_both_arms_have_are_compared(benchmark):
    runs = [run("plain-20", 1, 0.60), run("plain-20", 2, 0.61), run("cached-20", 2, 0.68), run("cached-20", 3, 0.69)]
    found = benchmark.summary(runs)["differences"]["cached-plain-20"]
    assert found == {"mean": 7.0, "low": -math.inf, "high": math.inf, "n": 1}
    assert "cached-native-20" not in benchmark.summary(runs)["differences"]


def test_what_is_done_is_not_run_again(benchmark):
    runs = [run("plain-20", 1, 0.6), run("cached-20", 0, 0.7), run("native-20", 2, 0.6)]
    wanted = benchmark.missing(["plain-20", "cached-20"], [0, 1, 2], runs)
    assert wanted == [("plain-20", 0), ("plain-20", 2), ("cached-20", 1), ("cached-20", 2)]


def test_a_seed_counts_once(benchmark):
    with pytest.raises(ValueError, match=r"two runs of the same seed: \[\('plain-20', 1\)\]"):
        benchmark.write([run("plain-20", 1, 0.6), run("plain-20", 1, 0.6)])


@pytest.mark.parametrize(
    ("low", "n", "mean", "said"),
    [
        (5.01, 3, 6.5, "met"),
        (5.0, 3, 6.5, "missed"),  # the interval is to lie above it
        (5.01, 3, 6.49, "missed"),
        (6.0, 2, 8.0, "too few seeds to say"),
    ],
)
def test_a_bar_asks_for_three_seeds_a_mean_and_an_interval(benchmark, low, n, mean, said):
    difference = {"mean": mean, "low": low, "high": 9.0, "n": n}
    assert benchmark.verdict("cached-plain-20", difference).endswith(f": {said}")


@pytest.mark.parametrize(
    ("mean", "half", "n", "said"),
    [
        (0.1, 0.1, 3, "met"),
        (0.2, 1.0, 3, "met in the mean, the interval is too wide to prove it"),
        (-0.2, 0.2, 3, "met in the mean, the interval is too wide to prove it"),
        (-0.31, 0.0, 3, "missed"),
        (1.0, 2.0, 3, "missed"),
        (0.1, math.inf, 1, "too few seeds to say"),
    ],
)
def test_a_bar_may_bound_a_difference_both_ways(benchmark, mean, half, n, said):
    difference = {"mean": mean, "low": mean - half, "high": mean + half, "n": n}
    assert benchmark.verdict("cached-live-20", difference) == f"within 0.3: {said}"


def test_the_committed_results_are_those_of_their_runs(benchmark):
    stored = json.loads(benchmark.SCALE.result.read_text())
    again = benchmark.summary(stored["runs"])
    shown = json.loads(json.dumps(again).replace("-Infinity", "null").replace("Infinity", "null"))
    assert {name: shown[name] for name in ("arms", "differences", "ratios")} == {
        name: stored[name] for name in ("arms", "differences", "ratios")
    }


def test_the_documents_show_the_tables_of_the_committed_results_and_no_others(benchmark):
    found = benchmark.summary(benchmark.stored_runs())
    root = Path(__file__).parents[1]
    assert f"\n\n{benchmark.tables(found)}\n\n" in (root / "tests/bench/RESULTS.md").read_text(encoding="utf-8")
    assert f"\n\n{benchmark.headline(found)}\n\n" in (root / "README.md").read_text(encoding="utf-8")


def test_every_bar_is_told_in_the_readme_once_it_is_measured(benchmark):
    assert {*benchmark.BARS, *benchmark.WITHIN} == set(benchmark.TITLES)
