"""What is told of the teacher cache: the committed measurements keep what was promised; RESULTS.md shows its sizes."""

import json
from pathlib import Path

import pytest

from kd_steps.jobs.cache_tool import LIMITS

BENCH = Path(__file__).parent / "bench"
CACHE = json.loads((BENCH / "results/cache.json").read_text())
ROWS = {
    "answers": "| answers: anchors, class logits, box bins |",
    "answers, attention": "| answers and attention maps |",
    "answers, attention, vectors": "| **answers, attention maps and the vectors of 48 anchors** ",
    "answers, attention, pixels": "| answers and attention maps with the view's pixels |",
    "the default": "| the default: the third row and the view's pixels |",
    "everything": "| all of it, and pooled channels |",
}
SIDES = ("deeppcb_320px", "deeppcb_640px")


def test_a_view_fits_its_bar_and_is_told_as_it_was_measured():
    measured = {side: CACHE[side]["bytes_per_view"] for side in SIDES}
    assert measured["deeppcb_640px"]["answers, attention, vectors"] <= 32_000
    lines = (BENCH / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    for content, title in ROWS.items():
        (line,) = [line for line in lines if line.startswith(title)]
        told = [cell.strip(" *") for cell in line.strip("|").split("|")[1:]]
        assert told == [f"{measured[side][content]:,}" for side in SIDES]
    assert set(ROWS) == set(measured["deeppcb_640px"])


@pytest.mark.parametrize("side", SIDES)
def test_stored_answers_are_within_the_limits_that_verify_holds_them_to(side):
    errors = CACHE[side]["largest_errors"]
    assert errors["anchors"] > 1000
    assert all(errors[name] <= limit for name, limit in LIMITS.items())


@pytest.mark.parametrize("kind", ["write", "read"])
def test_memory_does_not_grow_with_the_pictures(kind):
    assert CACHE["memory"]["pictures"] == [64, 256, 1024]
    assert CACHE["memory"][kind]["above_start_16x_over_1x"] <= 1.1
