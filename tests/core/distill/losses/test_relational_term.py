"""The relational term against scipy's pairwise distances, and what it must not see."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import cosine_similarity

from kd_steps.core.distill.losses.relational_term import relational_term


def pooled(seed, batch=6, channels=9):
    return torch.rand(batch, channels, generator=torch.Generator().manual_seed(seed))  # positive, as after a SiLU


def centred(values):
    values = values.double().numpy()
    return values - values.mean(axis=0)


def test_equals_the_reference():
    student, teacher = pooled(1, channels=4), pooled(2)
    mine, theirs = (1 - pdist(centred(side), "cosine") for side in (student, teacher))
    expected = np.square(mine - theirs).mean()
    assert relational_term(student, teacher).item() == pytest.approx(expected, rel=1e-4)
    every = cosine_similarity(centred(student)) - cosine_similarity(centred(teacher))
    assert expected == pytest.approx(np.square(every).sum() / 30), "each pair counts twice among 6 × 5"
    assert expected > 0.05


def test_zero_with_zero_gradient_at_equality():
    teacher = pooled(3)
    student = (5 * teacher - 2).requires_grad_()
    term = relational_term(student, teacher)
    term.backward()
    assert abs(term.item()) < 1e-9
    assert student.grad.abs().max() < 1e-5


def test_a_batch_of_one_says_nothing_and_can_be_differentiated():
    student = pooled(1, batch=1).requires_grad_()
    term = relational_term(student, pooled(2, batch=1))
    term.backward()
    assert term.item() == 0
    assert student.grad.abs().max() == 0


def test_two_pictures_are_opposite_to_everybody():
    assert relational_term(pooled(1, batch=2), pooled(2, batch=2)).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("batch", [2, 3, 7])
def test_pictures_that_all_look_alike_stay_finite(batch):
    student = pooled(1, batch=1).expand(batch, -1).clone().requires_grad_()
    for teacher in (pooled(2, batch), torch.zeros(batch, 9), pooled(3, batch=1).expand(batch, -1)):
        term = relational_term(student, teacher)
        term.backward()
        assert torch.isfinite(term)
    assert torch.isfinite(student.grad).all()


def test_gradients_reach_the_student_only():
    student, teacher = pooled(1).requires_grad_(), pooled(2).requires_grad_()
    relational_term(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().min() > 0


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_fp32(half):
    student, teacher = pooled(1).to(half), pooled(2).to(half)
    found = relational_term(student, teacher)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(relational_term(student.float(), teacher.float()).item(), rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), batch=st.integers(2, 8))
def test_order_of_pictures_and_turns_of_the_channels_do_not_count(seed, batch):
    student, teacher = pooled(seed, batch, 5), pooled(seed + 1, batch, 7)
    expected = relational_term(student, teacher).item()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(batch, generator=generator)
    assert relational_term(student[order], teacher[order]).item() == pytest.approx(expected, rel=1e-3, abs=1e-6)
    turns = [torch.linalg.qr(torch.randn(n, n, generator=generator))[0] for n in (5, 7)]
    assert relational_term(student @ turns[0], teacher).item() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert relational_term(student, teacher @ turns[1]).item() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert 0 <= expected <= 4


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.1, 10), offset=st.floats(-5, 5))
def test_what_all_pictures_share_does_not_count(seed, factor, offset):
    student, teacher = pooled(seed), pooled(seed + 1)
    expected = relational_term(student, teacher).item()
    assert relational_term(factor * student + offset, teacher).item() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    shared = teacher + pooled(seed + 2, batch=1)
    assert relational_term(student, shared).item() == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_order_of_pictures_counts_where_only_one_side_is_turned():
    student, teacher = pooled(1), pooled(2)
    assert relational_term(student.flip(0), teacher).item() != pytest.approx(relational_term(student, teacher).item())
