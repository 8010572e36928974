"""Which view an epoch shows, and the key that a view's randomness comes from."""

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.detect.views import View, ViewPlan, pixel_hash, plan_views, view_key

A, B = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()
ARGUMENTS = (A, View(False, 0), 0, A)


def test_key_is_the_same_in_every_process():
    # Frozen on purpose: a key that changes silently makes every stored cache another machine's.
    assert view_key(*ARGUMENTS) == int.from_bytes(
        hashlib.blake2b(f"{A}/0/0/0/{A}".encode(), digest_size=8).digest(), "little"
    )
    assert 0 <= view_key(*ARGUMENTS) < 2**64


@pytest.mark.parametrize("changed", [(0, B), (1, View(True, 0)), (1, View(False, 1)), (2, 1), (3, B)])
def test_key_depends_on_every_argument(changed):
    place, value = changed
    arguments = [*ARGUMENTS]
    arguments[place] = value
    assert view_key(*arguments) != view_key(*ARGUMENTS)


def test_keys_of_many_views_differ():
    keys = {
        view_key(A, View(closing, n), seed, B) for closing in (False, True) for n in range(50) for seed in range(11)
    }
    assert len(keys) == 1100


@given(
    epochs=st.integers(1, 100),
    closing_fraction=st.floats(0, 1),
    views=st.integers(0, 120),
    closing_views=st.integers(0, 120),
)
def test_plan(epochs, closing_fraction, views, closing_views):
    plan = plan_views(epochs, closing_fraction, views, closing_views)
    shown = [plan.at(epoch) for epoch in range(epochs)]
    mosaic = [view for view in shown if not view.closing]
    closing = [view for view in shown if view.closing]
    assert shown == mosaic + closing, "closing views come last"
    assert len(closing) == round(epochs * closing_fraction)
    assert plan.all_views() == sorted(set(shown))
    for part, wanted in ((mosaic, views), (closing, closing_views)):
        if part:
            expected = min(wanted, len(part)) or math.ceil(len(part) / 3)
            assert {view.number for view in part} == set(range(expected))
            times = Counter(part).values()
            assert max(times) - min(times) <= 1


def test_default_repeats_a_view_three_times():
    plan = plan_views(24, 0.2)
    assert (plan.closing_epochs, plan.views, plan.closing_views) == (5, 7, 2)
    assert plan.at(0) == plan.at(7) == plan.at(14) == View(False, 0)
    assert plan.at(19) == plan.at(21) == plan.at(23) == View(True, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [((4, 5, 1, 1), "closing epochs must lie in 0..4"), ((4, 1, 0, 1), "views"), ((4, 1, 1, 0), "closing_views")],
)
def test_impossible_plans_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ViewPlan(*values)


def test_pixel_hash_sees_every_pixel_and_the_shape():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 6), dtype=np.uint8)
    found = pixel_hash(pixels)
    assert found == pixel_hash(pixels.copy(order="F")), "memory order does not count"
    # Frozen on purpose: a cache holds these numbers, and its layout says which hash they are of.
    assert found == xxhash.xxh3_64_intdigest(b"(3, 8, 6)" + pixels.tobytes())
    assert found != pixel_hash(pixels.reshape(3, 6, 8))
    for place in np.ndindex(pixels.shape):
        changed = pixels.copy()
        changed[place] ^= 1
        assert pixel_hash(changed) != found
