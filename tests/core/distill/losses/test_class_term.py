"""The class term against torch's own Bernoulli divergence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, kl_divergence

from kd_steps.core.detect.outputs import top_score
from kd_steps.core.distill.losses.class_term import background_term, bernoulli_entropy, class_term


def logits(seed, anchors=7, classes=3, spread=3.0):
    return torch.randn(anchors, classes, generator=torch.Generator().manual_seed(seed)) * spread


def reference(student, teacher, temperature):
    """The formula of the docstring, in float64, through torch.distributions."""
    student, teacher = student.double(), teacher.double()
    divergence = kl_divergence(Bernoulli(logits=teacher / temperature), Bernoulli(logits=student / temperature))
    weight = (teacher.sigmoid() - student.sigmoid()).abs()
    return temperature**2 * (weight * divergence).sum() / teacher.sigmoid().amax(dim=1).sum().clamp(min=1)


@pytest.mark.parametrize("temperature", [1.0, 2.5, 5.0])
@pytest.mark.parametrize("classes", [1, 6])
def test_equals_the_reference(temperature, classes):
    student, teacher = logits(1, classes=classes), logits(2, classes=classes)
    found = class_term(student, teacher, temperature)
    assert found.item() == pytest.approx(reference(student, teacher, temperature).item(), rel=1e-4)
    assert found.item() > 0.01


def test_entropy_equals_the_reference_also_far_out():
    values = torch.tensor([-60.0, -8.0, -0.5, 0.0, 0.5, 8.0, 60.0])
    assert torch.allclose(bernoulli_entropy(values), Bernoulli(logits=values).entropy(), atol=1e-6)
    assert torch.isfinite(bernoulli_entropy(torch.tensor([-500.0, 500.0]))).all()


def test_zero_with_zero_gradient_where_student_equals_teacher():
    teacher = logits(3)
    student = teacher.clone().requires_grad_()
    term = class_term(student, teacher, 4.0)
    term.backward()
    assert abs(term.item()) < 1e-6
    assert student.grad.abs().max() < 1e-6


def test_gradient_pulls_the_student_to_the_teacher_and_not_the_reverse():
    student, teacher = logits(4).requires_grad_(), logits(5).requires_grad_()
    class_term(student, teacher, 2.0).backward()
    assert teacher.grad is None
    assert (student.grad.sign() == (student - teacher).sign()).all()


def test_no_anchors_give_zero_that_can_be_differentiated():
    student = torch.zeros(0, 3, requires_grad=True)
    term = class_term(student, torch.zeros(0, 3), 2.0)
    term.backward()
    assert term.item() == 0
    assert student.grad.shape == (0, 3)


def test_half_precision_is_computed_in_fp32():
    student, teacher = logits(6).bfloat16(), logits(7).bfloat16()
    term = class_term(student, teacher, 3.0)
    assert term.dtype == torch.float32
    assert term.item() == pytest.approx(reference(student, teacher, 3.0).item(), rel=1e-4)


def test_large_logits_stay_finite():
    student, teacher = torch.tensor([[300.0, -300.0]], requires_grad=True), torch.tensor([[-300.0, 300.0]])
    term = class_term(student, teacher, 1.0)
    term.backward()
    assert torch.isfinite(term)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        class_term(logits(1), logits(2), temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        background_term(dense(1), KEPT, CEILING, SCORES, temperature)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"student \(7, 3\) and teacher \(7, 2\) differ"):
        class_term(logits(1), logits(2, classes=2), 1.0)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 8), anchors=st.integers(1, 9))
def test_never_negative_and_order_of_anchors_and_classes_does_not_count(seed, temperature, anchors):
    student, teacher = logits(seed, anchors), logits(seed + 1, anchors)
    term = class_term(student, teacher, temperature)
    assert term.item() >= -1e-6
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(anchors, generator=generator), torch.randperm(3, generator=generator)
    mixed = class_term(student[rows][:, columns], teacher[rows][:, columns], temperature)
    assert mixed.item() == pytest.approx(term.item(), rel=1e-4, abs=1e-6)


def dense(seed, spread=3.0):
    """Logits of (batch, classes, anchors)."""
    return torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(seed)) * spread


KEPT = torch.zeros(2, 9, dtype=torch.bool)
KEPT[0, [1, 4]] = KEPT[1, 8] = True
CEILING = torch.tensor([0.01, 0.3])
SCORES = torch.tensor([0.9, 0.4, 0.7])


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_background_equals_the_reference(temperature):
    student, expected = dense(11), 0.0
    for sample, ceiling in enumerate(CEILING.double()):
        limit = Bernoulli(logits=ceiling.logit() / temperature)
        for anchor in range(9):
            for logit in student[sample, :, anchor].double():
                if logit.sigmoid() > ceiling and not KEPT[sample, anchor]:
                    divergence = kl_divergence(limit, Bernoulli(logits=logit / temperature))
                    expected += temperature**2 * (logit.sigmoid() - ceiling) * divergence
    found = background_term(student, KEPT, CEILING, SCORES, temperature)
    assert found.item() == pytest.approx(float(expected / SCORES.sum()), rel=1e-4)
    assert found.item() > 0.1


def test_background_pushes_down_what_lies_above_the_ceiling_and_leaves_all_else_alone():
    student = dense(12).requires_grad_()
    background_term(student, KEPT, CEILING, SCORES, 2.0).backward()
    above = (student.sigmoid() > CEILING[:, None, None]) & ~KEPT[:, None]
    assert (student.grad[above] > 0).all()
    assert (student.grad[~above] == 0).all()
    assert above.any()
    assert not above.all()


def test_background_of_a_student_below_the_ceiling_is_zero_and_can_be_differentiated():
    student = torch.full((2, 3, 9), -9.0, requires_grad=True)
    term = background_term(student, KEPT, CEILING, SCORES, 1.0)
    term.backward()
    assert term.item() == 0
    assert (student.grad == 0).all()


@pytest.mark.parametrize("ceiling", [0.0, 1.0])
def test_background_is_finite_at_the_ends(ceiling):
    student = torch.tensor([-300.0, 0.0, 300.0]).repeat(2, 3, 3).requires_grad_()
    term = background_term(student, KEPT, torch.full((2,), ceiling), torch.zeros(0), 1.0)
    term.backward()
    assert torch.isfinite(term)
    assert torch.isfinite(student.grad).all()
    assert (term.item() > 0) is (ceiling == 0.0)


def test_top_score():
    assert torch.allclose(top_score(torch.tensor([[0.0, -1.0], [2.0, 3.0]])), torch.tensor([0.0, 3.0]).sigmoid())
    assert top_score(torch.zeros(0, 3)).shape == (0,)


def test_the_gradient_is_the_divergences_alone_and_none_of_its_weight():
    student, teacher = logits(8).requires_grad_(), logits(9)
    class_term(student, teacher, 2.0).backward()
    mine = student.detach()
    weight = (teacher.sigmoid() - mine.sigmoid()).abs() / teacher.sigmoid().amax(dim=1).sum()
    pull = 2.0 * ((mine / 2).sigmoid() - (teacher / 2).sigmoid())  # T² times a divergence of logits over T
    assert torch.allclose(student.grad, weight * pull, atol=1e-6)


def test_the_gradient_of_background_is_the_divergences_alone():
    student = dense(12).requires_grad_()
    background_term(student, KEPT, CEILING, SCORES, 2.0).backward()
    mine, limit = student.detach(), CEILING[:, None, None]
    excess = torch.where(KEPT[:, None], 0, (mine.sigmoid() - limit).clamp(min=0)) / SCORES.sum()
    pull = 2.0 * ((mine / 2).sigmoid() - (limit.logit() / 2).sigmoid())
    assert torch.allclose(student.grad, excess * pull, atol=1e-6)


def test_a_batch_the_teacher_hardly_sees_is_not_raised_to_full_weight():
    student, teacher = logits(1, anchors=1), torch.full((1, 3), -4.0)
    once, five = (class_term(student.repeat(n, 1), teacher.repeat(n, 1), 1.0).item() for n in (1, 5))
    assert five == pytest.approx(5 * once, rel=1e-4)
    faint, none = (background_term(dense(11), KEPT, CEILING, s, 1.0) for s in (torch.full((3,), 0.05), torch.zeros(0)))
    assert faint.item() == pytest.approx(none.item())
    assert none.item() == pytest.approx(2.0 * background_term(dense(11), KEPT, CEILING, SCORES, 1.0).item(), rel=1e-5)
