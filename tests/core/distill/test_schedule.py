"""The three-phase schedule."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.distill.schedule import Phase, weights_at

PHASES = {
    "warm_up": Phase(0.2, 0.3, 0.7, 5.0),
    "distillation": Phase(0.6, 0.7, 0.3, 4.0),
    "convergence": Phase(0.2, 0.5, 0.5, 3.0),
}


def test_phases_take_their_share_of_the_epochs():
    names = [weights_at(epoch, 20, PHASES, 0).phase for epoch in range(20)]
    assert names == ["warm_up"] * 4 + ["distillation"] * 12 + ["convergence"] * 4


def test_weights_and_temperature_are_the_phases_doubled():
    found = weights_at(10, 20, PHASES, 0)
    assert (found.soft, found.hard, found.temperature) == pytest.approx((1.4, 0.6, 4.0))
    assert weights_at(19, 20, PHASES, 0).temperature == 3.0
    assert found.losses == pytest.approx(2.0)
    assert weights_at(0, 1, {"alone": Phase(1.0, 0.0, 0.5, 1.0)}, 0).losses == 1.0


def test_gamma_ramps_the_soft_part_and_hands_the_rest_to_the_labels():
    ramp = [weights_at(epoch, 20, PHASES, 4) for epoch in range(4)]
    assert [w.soft for w in ramp] == pytest.approx([0.15, 0.3, 0.45, 0.6])
    assert [w.hard for w in ramp] == pytest.approx([1.85, 1.7, 1.55, 1.4])


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_training_shorter_than_its_phases_still_has_one_each_epoch(epochs):
    names = [weights_at(epoch, epochs, PHASES, 0).phase for epoch in range(epochs)]
    assert (
        names
        == {
            1: ["distillation"],
            2: ["distillation"] * 2,
            3: ["warm_up", "distillation", "convergence"],
        }[epochs]
    )


@given(
    epochs=st.integers(1, 60),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    weights=st.lists(st.floats(0, 3), min_size=6, max_size=6),
    gamma_epochs=st.floats(0, 80),
)
def test_sum_of_both_weights_never_depends_on_gamma(epochs, cut, weights, gamma_epochs):
    low, high = sorted(cut)
    fractions = (low, high - low, 1 - high)
    phases = {str(i): Phase(f, weights[2 * i], weights[2 * i + 1], 1.0) for i, f in enumerate(fractions)}
    soft_shares = []
    for epoch in range(epochs):
        found = weights_at(epoch, epochs, phases, gamma_epochs)
        phase = phases[found.phase]
        assert found.soft + found.hard == pytest.approx(2 * (phase.soft_weight + phase.hard_weight))
        assert found.soft >= 0
        assert found.hard >= 0
        soft_shares.append((found.phase, found.soft))
    for (name, before), (next_name, after) in itertools.pairwise(soft_shares):
        assert int(next_name) >= int(name)
        assert next_name != name or after >= before - 1e-12


def test_fractions_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match=r"of warm_up must add up to 1, they add up to 0\.2"):
        weights_at(0, 10, {"warm_up": PHASES["warm_up"]}, 0)


@pytest.mark.parametrize("epoch", [-1, 10])
def test_an_epoch_outside_the_training_is_refused(epoch):
    with pytest.raises(ValueError, match=rf"epoch {epoch} is outside 0\.\.9"):
        weights_at(epoch, 10, PHASES, 0)
