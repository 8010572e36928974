"""The attention terms against plain loops in float64 and scipy's cosine."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from kd_steps.core.distill.losses.attention_term import channel_attention_term, spatial_attention_term

SHAPES = ((5, 8, 8), (7, 4, 4), (3, 2, 2))  # channels, height, width of a level
CELLS = [height * width for _, height, width in SHAPES]


def neck(seed, batch=3, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, *shape, generator=generator) for shape in shapes]


def maps_of(features):
    """The teacher's maps as plain loops see them, float32 of shape (batch, cells)."""
    rows = []
    for sample in range(len(features[0])):
        cells = []
        for level in features:
            _, height, width = level[sample].shape
            for y in range(height):
                cells += [float((level[sample, :, y, x].double() ** 2).mean()) for x in range(width)]
        rows.append(cells)
    return torch.tensor(rows)


def reference(student, teacher_maps):
    """The formula of the docstring, in float64."""
    total, start = 0.0, 0
    mine, theirs = maps_of(student).double().numpy(), teacher_maps.double().numpy()
    for count in CELLS:
        level = slice(start, start + count)
        distances = [
            np.square(s / np.linalg.norm(s) - t / np.linalg.norm(t)).sum()
            for s, t in zip(mine[:, level], theirs[:, level], strict=True)
        ]
        total, start = total + np.mean(distances), start + count
    return total


def test_spatial_equals_the_reference():
    student, teacher = neck(1), maps_of(neck(2, shapes=[(9, h, w) for _, h, w in SHAPES]))
    found = spatial_attention_term(student, teacher)
    assert found.item() == pytest.approx(reference(student, teacher), rel=1e-5)
    assert found.item() > 0.1


def test_opposite_maps_are_two_a_level():
    student = [torch.zeros(1, 1, 2, 2) for _ in range(3)]
    for level in student:
        level[0, 0, 0, 0] = 3.0
    teacher = torch.tensor([[0.0, 1.0, 0.0, 0.0] * 3])
    assert spatial_attention_term(student, teacher).item() == pytest.approx(6)


def test_spatial_is_zero_with_zero_gradient_at_equality():
    student = [level.requires_grad_() for level in neck(3)]
    term = spatial_attention_term(student, maps_of([level.detach() for level in student]))
    term.backward()
    assert abs(term.item()) < 1e-6
    assert max(level.grad.abs().max() for level in student) < 1e-5


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    mine=st.tuples(*[st.floats(0.01, 100)] * 3),
    theirs=st.tuples(*[st.floats(0.01, 100)] * 3),
)
def test_the_scale_of_a_level_does_not_count(seed, mine, theirs):
    student, teacher = neck(seed), maps_of(neck(seed + 1))
    expected = spatial_attention_term(student, teacher).item()
    scaled = torch.cat([part * by for part, by in zip(teacher.split(CELLS, dim=1), theirs, strict=True)], dim=1)
    found = spatial_attention_term([level * by for level, by in zip(student, mine, strict=True)], scaled).item()
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert 0 <= found <= 6


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_channels_and_pictures_may_come_in_any_order(seed):
    student, teacher = neck(seed), maps_of(neck(seed + 1))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(3, generator=generator)
    mixed = [level[order][:, torch.randperm(level.shape[1], generator=generator)] for level in student]
    expected = spatial_attention_term(student, teacher).item()
    assert spatial_attention_term(mixed, teacher[order]).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_maps_stay_finite(value):
    student = [torch.full((2, *shape), value, requires_grad=True) for shape in SHAPES]
    for teacher in (torch.zeros(2, sum(CELLS)), torch.ones(2, sum(CELLS))):
        term = spatial_attention_term(student, teacher)
        term.backward()
        assert torch.isfinite(term)
        assert all(torch.isfinite(level.grad).all() for level in student)


def test_a_student_with_other_cells_is_refused():
    with pytest.raises(ValueError, match=r"levels have \[64, 16, 4\] cells, the teacher's maps 80"):
        spatial_attention_term(neck(1), torch.ones(3, 80))


def test_spatial_gradients_reach_the_student_only():
    student, teacher = [level.requires_grad_() for level in neck(1)], maps_of(neck(2)).requires_grad_()
    spatial_attention_term(student, teacher).backward()
    assert teacher.grad is None
    assert all(level.grad.abs().sum() > 0 for level in student)


def test_channel_equals_scipys_cosine():
    student, teacher = torch.randn(4, 9), torch.randn(4, 9)
    expected = np.mean([cosine(s, t) for s, t in zip(student.double().numpy(), teacher.double().numpy(), strict=True)])
    assert channel_attention_term(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_channel_is_zero_with_zero_gradient_at_any_positive_multiple():
    teacher = torch.randn(4, 9)
    student = (teacher * torch.tensor([[0.1], [1.0], [3.0], [70.0]])).requires_grad_()
    term = channel_attention_term(student, teacher)
    term.backward()
    assert abs(term.item()) < 1e-6
    assert student.grad.abs().max() < 1e-5
    assert channel_attention_term(-student, teacher).item() == pytest.approx(2)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_channel_may_be_turned_on_both_sides(seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    expected = channel_attention_term(student, teacher).item()
    assert channel_attention_term(student @ turn, teacher @ turn).item() == pytest.approx(expected, abs=1e-5)


def test_channel_stays_finite_without_a_direction():
    student = torch.zeros(2, 5, requires_grad=True)
    term = channel_attention_term(student, torch.zeros(2, 5)) + channel_attention_term(student, torch.ones(2, 5))
    term.backward()
    assert torch.isfinite(term)
    assert torch.isfinite(student.grad).all()


def test_channel_gradients_reach_the_student_only():
    student, teacher = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    channel_attention_term(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_fp32(kind):
    student, teacher = [level.to(kind) for level in neck(1)], maps_of(neck(2)).to(kind)
    found = spatial_attention_term(student, teacher)
    assert found.dtype == torch.float32
    expected = spatial_attention_term([level.float() for level in student], teacher.float())
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    mine, theirs = torch.randn(3, 5).to(kind), torch.randn(3, 5).to(kind)
    found = channel_attention_term(mine, theirs)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(channel_attention_term(mine.float(), theirs.float()).item(), rel=1e-6)
