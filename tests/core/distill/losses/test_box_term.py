"""The box term against torch's KL and torchvision's IoU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torchvision.ops import box_iou

from kd_steps.core.detect.outputs import decode_sides
from kd_steps.core.distill.losses.box_term import bin_term, decoded_term


def bins(seed, anchors=6, count=16):
    return torch.randn(anchors, 4, count, generator=torch.Generator().manual_seed(seed)) * 2


def sides(seed, anchors=6):
    return torch.rand(anchors, 4, generator=torch.Generator().manual_seed(seed)) * 6 + 0.1


def weights(seed, anchors=6):
    return torch.rand(anchors, generator=torch.Generator().manual_seed(seed))


def weighted(values, weight):
    return (values * weight).sum() / weight.sum().clamp(min=1)


@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_bins_equal_the_reference(temperature):
    student, teacher, weight = bins(1), bins(2), weights(3)
    divergence = functional.kl_div(
        (student.double() / temperature).log_softmax(-1),
        (teacher.double() / temperature).softmax(-1),
        reduction="none",
    )
    expected = temperature**2 * weighted(divergence.sum(-1).mean(-1), weight)
    assert bin_term(student, teacher, weight, temperature).item() == pytest.approx(expected.item(), rel=1e-4)


def test_decoded_boxes_equal_the_reference():
    student, teacher, weight = sides(1), sides(2), weights(3)
    corners = [torch.cat([-s[:, :2], s[:, 2:]], dim=1) for s in (student, teacher)]
    iou = box_iou(*corners).diagonal()
    width_and_height = corners[1][:, 2:] - corners[1][:, :2]
    distance = (student - teacher).abs().mean(1) / width_and_height.mean(1)
    expected = weighted(1 - iou + distance, weight)
    assert decoded_term(student, teacher, weight).item() == pytest.approx(expected.item(), rel=1e-4)


def test_decoding_is_the_expectation_of_the_bins():
    certain = torch.full((1, 4, 16), -50.0)
    for side, place in enumerate((0, 3, 7, 15)):
        certain[0, side, place] = 50.0
    assert torch.allclose(decode_sides(certain), torch.tensor([[0.0, 3.0, 7.0, 15.0]]), atol=1e-4)
    assert torch.allclose(decode_sides(torch.zeros(1, 4, 16)), torch.full((1, 4), 7.5))
    distances = sides(1)
    assert torch.equal(decode_sides(distances[..., None]), distances)


def test_bins_are_zero_with_zero_gradient_at_equality():
    teacher = bins(4)
    student = teacher.clone().requires_grad_()
    term = bin_term(student, teacher, weights(5), 2.0)
    term.backward()
    assert abs(term.item()) < 1e-5
    assert student.grad.abs().max() < 1e-5


def test_decoded_boxes_are_zero_at_equality():
    teacher = sides(4)
    assert abs(decoded_term(teacher.clone(), teacher, weights(5)).item()) < 1e-5


def test_an_offset_of_all_bins_of_a_side_changes_nothing():
    student, teacher, weight = bins(6), bins(7), weights(8)
    moved = bin_term(student + 3, teacher - 11, weight, 1.0)
    assert moved.item() == pytest.approx(bin_term(student, teacher, weight, 1.0).item(), rel=1e-4)


@pytest.mark.parametrize("term", [lambda s, t, w: bin_term(s, t, w, 2.0), decoded_term])
def test_no_anchors_give_zero_that_can_be_differentiated(term):
    shape = (0, 4) if term is decoded_term else (0, 4, 16)
    student = torch.zeros(shape, requires_grad=True)
    value = term(student, torch.zeros(shape), torch.zeros(0))
    value.backward()
    assert value.item() == 0
    assert student.grad.shape == shape


def test_boxes_without_area_stay_finite():
    student = torch.zeros(2, 4, requires_grad=True)
    term = decoded_term(student, torch.zeros(2, 4), torch.ones(2))
    term.backward()
    assert torch.isfinite(term)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("term", [lambda s, t, w: bin_term(s, t, w, 2.0), decoded_term])
def test_gradients_reach_the_student_only(term):
    make = sides if term is decoded_term else bins
    student, teacher = make(1).requires_grad_(), make(2).requires_grad_()
    term(student, teacher, weights(3)).backward()
    assert teacher.grad is None
    assert student.grad.abs().min() > 0


@pytest.mark.parametrize("term", [lambda s, t, w: bin_term(s, t, w, 2.0), decoded_term])
def test_half_precision_is_computed_in_fp32(term):
    make = sides if term is decoded_term else bins
    student, teacher, weight = make(1).bfloat16(), make(2).bfloat16(), weights(3).bfloat16()
    value = term(student, teacher, weight)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(term(student.float(), teacher.float(), weight.float()).item(), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -2.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        bin_term(bins(1), bins(2), weights(3), temperature)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"student \(6, 4, 16\) and teacher \(6, 4, 8\) bins differ"):
        bin_term(bins(1), bins(2, count=8), weights(3), 1.0)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), anchors=st.integers(1, 9))
def test_never_negative_and_the_order_of_anchors_does_not_count(seed, anchors):
    order = torch.randperm(anchors, generator=torch.Generator().manual_seed(seed))
    weight = weights(seed + 2, anchors)
    for make, term in ((bins, lambda s, t, w: bin_term(s, t, w, 1.5)), (sides, decoded_term)):
        student, teacher = make(seed, anchors), make(seed + 1, anchors)
        value = term(student, teacher, weight).item()
        assert value >= -1e-6
        mixed = term(student[order], teacher[order], weight[order]).item()
        assert mixed == pytest.approx(value, rel=1e-4, abs=1e-6)


def test_a_box_turned_inside_out_overlaps_with_none():
    box = torch.full((1, 4), 2.0)
    for student, teacher in ((-box, box), (box, -box)):
        assert decoded_term(student, teacher, torch.ones(1)).item() == pytest.approx(1 + 4 / 4)
