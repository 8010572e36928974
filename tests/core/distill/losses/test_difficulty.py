"""Dynamic strength: against a loop, at its ends, and without a gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.distill.losses.difficulty import class_gap, harder_first


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_the_gap_is_that_of_the_teachers_top_class():
    student, teacher = torch.randn(20, 4), torch.randn(20, 4)
    for row, gap in enumerate(class_gap(student, teacher).tolist()):
        best = max(range(4), key=lambda c: teacher[row, c].item())
        assert gap == pytest.approx(
            abs(sigmoid(teacher[row, best].item()) - sigmoid(student[row, best].item())), abs=1e-6
        )
    assert class_gap(teacher, teacher).tolist() == [0.0] * 20
    assert class_gap(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def test_weights_are_raised_by_the_gap_and_keep_their_sum():
    weight, gap = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.0, 1.0, 0.5])
    raised = harder_first(weight, gap, 2.0)
    assert raised.sum().item() == pytest.approx(1.0)
    expected = [0.5 * 1, 0.25 * 3, 0.25 * 2]
    assert (raised * sum(expected)).tolist() == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1)), min_size=2, max_size=30), st.floats(0.1, 10))
def test_a_harder_anchor_gains_on_an_easier_one(rows, strength):
    weight, gap = (torch.tensor(values) for values in zip(*rows, strict=True))
    gained = harder_first(weight, gap, strength) / weight
    order = gap.argsort()
    assert (gained[order].diff() >= -1e-5).all()


def test_no_strength_is_the_very_same_weights_and_a_negative_one_is_refused():
    weight = torch.rand(5)
    assert harder_first(weight, torch.rand(5), 0.0) is weight
    assert harder_first(torch.zeros(0), torch.zeros(0), 1.0).shape == (0,)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        harder_first(weight, weight, -1)


def test_nothing_flows_back_through_the_gap():
    student = torch.randn(3, 2, requires_grad=True)
    assert not class_gap(student, torch.randn(3, 2)).requires_grad
