"""The learning-rate guard: when it cuts, how far, and that it never raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.distill.lr_guard import LearningRateGuard

LOSSES = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("scale", "soft", "task", "expected"),
    [
        (1.0, 3.0, 1.0, 1.0),  # as much as is allowed
        (1.0, 3.1, 1.0, 0.5),
        (0.5, 3.1, 1.0, 0.25),
        (0.25, 3.1, 1.0, 0.2),  # the floor
        (0.2, 1e9, 1.0, 0.2),
        (0.25, 0.1, 1.0, 0.25),  # what was cut stays cut
        (1.0, 0.0, 0.0, 1.0),  # no teacher, no objects
    ],
)
def test_cuts_above_the_ratio_down_to_the_floor(scale, soft, task, expected):
    assert LearningRateGuard(3.0, 0.5, 0.2).next_scale(scale, soft, task) == expected


@given(
    st.builds(LearningRateGuard, st.floats(0, 10), st.floats(0.01, 1), st.floats(0.01, 1)),
    st.lists(st.tuples(LOSSES, LOSSES), max_size=30),
)
def test_never_raises_never_below_the_floor_at_most_one_cut_an_epoch(guard, epochs):
    scale = 1.0
    for soft, task in epochs:
        cut = guard.next_scale(scale, soft, task)
        assert cut <= scale
        assert cut >= guard.floor
        assert cut == scale or cut >= scale * guard.factor
        scale = cut
