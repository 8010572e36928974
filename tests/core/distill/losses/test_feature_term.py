"""The feature terms against torch's KL, numpy's correlation and plain loops in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from kd_steps.core.distill.losses.feature_term import cwd_term, l2_term, pkd_term

TERMS = {"l2": lambda s, t: l2_term(s, t, scores(len(s))), "cwd": lambda s, t: cwd_term(s, t, 2.0), "pkd": pkd_term}


def vectors(seed, count=11, channels=5, spread=2.0):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed)) * spread


def scores(count):
    return torch.linspace(0.05, 0.9, count)


def test_l2_equals_plain_loops():
    student, teacher, score = vectors(1), vectors(2), scores(11)
    total = weight = 0.0
    for s, t, w in zip(student.double().numpy(), teacher.double().numpy(), score.double().numpy(), strict=True):
        total, weight = total + w * np.square(s - t).mean(), weight + w
    assert l2_term(student, teacher, score).item() == pytest.approx(total / weight, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_cwd_equals_torchs_divergence(temperature):
    student, teacher = vectors(1), vectors(2)
    divergence = functional.kl_div(
        (student.double().T / temperature).log_softmax(dim=1),
        (teacher.double().T / temperature).softmax(dim=1),
        reduction="none",
    ).sum(dim=1)
    expected = temperature**2 * divergence.mean().item()
    assert cwd_term(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5)
    assert expected > 0.1


def test_pkd_equals_numpys_correlation():
    student, teacher = vectors(1), vectors(2) + vectors(1)
    mine, theirs = student.double().numpy(), teacher.double().numpy()
    expected = np.mean([1 - np.corrcoef(mine[:, c], theirs[:, c])[0, 1] for c in range(5)])
    assert pkd_term(student, teacher).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", TERMS)
def test_zero_with_zero_gradient_at_equality(kind):
    teacher = vectors(3)
    student = teacher.clone().requires_grad_()
    term = TERMS[kind](student, teacher)
    term.backward()
    assert abs(term.item()) < 1e-6
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("kind", TERMS)
def test_no_vector_gives_zero_that_can_be_differentiated(kind):
    student = torch.zeros(0, 5, requires_grad=True)
    term = TERMS[kind](student, torch.zeros(0, 5))
    term.backward()
    assert term.item() == 0
    assert student.grad.shape == (0, 5)


@pytest.mark.parametrize("kind", ["cwd", "pkd"])
def test_one_vector_has_no_distribution_to_compare(kind):
    student = vectors(1, count=1).requires_grad_()
    term = TERMS[kind](student, vectors(2, count=1))
    term.backward()
    assert term.item() == 0
    assert student.grad.abs().max() == 0


def test_one_vector_is_enough_for_l2():
    student, teacher = vectors(1, count=1), vectors(2, count=1)
    expected = (student - teacher).square().mean().item()
    assert l2_term(student, teacher, torch.tensor([0.2])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", TERMS)
@pytest.mark.parametrize("who", ["student", "teacher", "both"])
@pytest.mark.parametrize("value", [0.5, 0.7])  # the mean is exact, and off by a rounding
def test_a_channel_that_never_changes_stays_finite(kind, who, value):
    student, teacher = vectors(1), vectors(2)
    if who != "teacher":
        student[:, 2] = value
    if who != "student":
        teacher[:, 2] = -value
    student.requires_grad_()
    term = TERMS[kind](student, teacher)
    term.backward()
    assert torch.isfinite(term)
    assert torch.isfinite(student.grad).all()
    assert student.grad[:, 0].abs().sum() > 0, "the other channels still learn"


def test_scores_of_nothing_stay_finite():
    student = vectors(1).requires_grad_()
    term = l2_term(student, vectors(2), torch.zeros(11))
    term.backward()
    assert term.item() == 0
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("kind", TERMS)
def test_gradients_reach_the_student_only(kind):
    student, teacher, score = vectors(1).requires_grad_(), vectors(2).requires_grad_(), scores(11).requires_grad_()
    term = l2_term(student, teacher, score) if kind == "l2" else TERMS[kind](student, teacher)
    term.backward()
    assert teacher.grad is None
    assert score.grad is None
    assert student.grad.abs().min() > 0


@pytest.mark.parametrize("kind", TERMS)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_fp32(kind, half):
    student, teacher = vectors(1).to(half), vectors(2).to(half)
    found = TERMS[kind](student, teacher)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(TERMS[kind](student.float(), teacher.float()).item(), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        cwd_term(vectors(1), vectors(2), temperature)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 12))
def test_never_negative_and_the_order_of_vectors_and_channels_does_not_count(seed, count):
    student, teacher, score = vectors(seed, count), vectors(seed + 1, count), scores(count)
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(count, generator=generator), torch.randperm(5, generator=generator)
    for term in (l2_term, lambda s, t, _: cwd_term(s, t, 2.0), lambda s, t, _: pkd_term(s, t)):
        value = term(student, teacher, score).item()
        assert value >= -1e-6
        mixed = term(student[rows][:, columns], teacher[rows][:, columns], score[rows]).item()
        assert mixed == pytest.approx(value, rel=1e-4, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.05, 20), offset=st.floats(-20, 20))
def test_pkd_is_blind_to_scale_and_offset_of_a_channel(seed, factor, offset):
    student, teacher = vectors(seed), vectors(seed + 1)
    expected = pkd_term(student, teacher).item()
    moved = student.clone()
    moved[:, 3] = factor * moved[:, 3] + offset
    assert pkd_term(moved, teacher).item() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert pkd_term(student, factor * teacher + offset).item() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert 0 <= expected <= 2


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), offset=st.floats(-20, 20), temperature=st.floats(0.5, 8))
def test_cwd_is_blind_to_an_offset_of_a_channel(seed, offset, temperature):
    student, teacher = vectors(seed), vectors(seed + 1)
    expected = cwd_term(student, teacher, temperature).item()
    assert cwd_term(student + offset, teacher, temperature).item() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert cwd_term(student, teacher - offset, temperature).item() == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_l2_takes_its_weight_from_the_score():
    student, teacher = vectors(1, count=2), vectors(2, count=2)
    alone = [l2_term(student[i : i + 1], teacher[i : i + 1], torch.ones(1)).item() for i in range(2)]
    found = l2_term(student, teacher, torch.tensor([0.9, 0.3])).item()
    assert found == pytest.approx(0.75 * alone[0] + 0.25 * alone[1], rel=1e-5)
