"""The terms of a batch, by name."""

import pytest
import torch

from kd_steps.core.distillation import TermWeights, distillation_terms
from kd_steps.core.losses.box_term import bin_term, decode_sides, decoded_term
from kd_steps.core.losses.class_term import class_term, top_score
from kd_steps.core.teacher_records import batch_records, sparse_records, student_at

WEIGHTS = TermWeights(class_weight=1.0, box_weight=1.0, box_temperature=2.0)


def dense(seed, classes=2, bins=4, batch=2, anchors=12):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, classes, anchors, generator=generator) * 2,
        torch.randn(batch, 4 * bins, anchors, generator=generator).abs(),
    )


def answers(seed=1, threshold=0.3, **shape):
    logits, boxes = dense(seed, **shape)
    return batch_records(sparse_records(logits, boxes, [0] * len(logits), threshold, 300))


def test_terms_are_those_of_the_kept_anchors_times_their_weights():
    teacher, (logits, boxes) = answers(), dense(2)
    terms = distillation_terms(logits, boxes, teacher, TermWeights(3.0, 5.0, 2.0), 4.0)
    student_logits, student_bins = student_at(logits, boxes, teacher)
    score = top_score(teacher.class_logits)
    assert list(terms) == ["kd_class", "kd_box"]
    assert terms["kd_class"].item() == pytest.approx(3 * class_term(student_logits, teacher.class_logits, 4.0).item())
    assert terms["kd_box"].item() == pytest.approx(5 * bin_term(student_bins, teacher.box_bins, score, 2.0).item())


def test_zero_where_the_student_is_the_teacher():
    logits, boxes = (t.requires_grad_() for t in dense(1))
    terms = distillation_terms(logits, boxes, answers(), WEIGHTS, 4.0)
    sum(terms.values()).backward()
    assert all(abs(term.item()) < 1e-5 for term in terms.values())
    assert logits.grad.abs().max() < 1e-5
    assert boxes.grad.abs().max() < 1e-5


@pytest.mark.parametrize(("student_bins", "teacher_bins"), [(1, 1), (1, 4), (4, 1), (8, 4)])
def test_heads_with_other_bins_are_compared_by_decoded_boxes(student_bins, teacher_bins):
    teacher, (logits, boxes) = answers(bins=teacher_bins), dense(2, bins=student_bins)
    found = distillation_terms(logits, boxes, teacher, WEIGHTS, 1.0)["kd_box"]
    _, raw = student_at(logits, boxes, teacher)
    expected = decoded_term(decode_sides(raw), decode_sides(teacher.box_bins), top_score(teacher.class_logits))
    assert found.item() == pytest.approx(expected.item())
    assert found.item() > 0


def test_classes_the_teacher_does_not_know_are_left_alone():
    logits, boxes = dense(2, classes=5)
    logits.requires_grad_()
    sum(distillation_terms(logits, boxes, answers(), WEIGHTS, 2.0).values()).backward()
    assert logits.grad[:, :2].abs().sum() > 0
    assert logits.grad[:, 2:].abs().sum() == 0


def test_a_batch_the_teacher_says_nothing_of_is_zero_and_can_be_differentiated():
    logits, boxes = (t.requires_grad_() for t in dense(2))
    terms = distillation_terms(logits, boxes, answers(threshold=0.9999), WEIGHTS, 2.0)
    sum(terms.values()).backward()
    assert [term.item() for term in terms.values()] == [0, 0]
    assert logits.grad.abs().sum() == 0


def test_half_precision_outputs_give_fp32_terms():
    logits, boxes = (t.bfloat16() for t in dense(2))
    terms = distillation_terms(logits, boxes, answers(), WEIGHTS, 2.0)
    assert {term.dtype for term in terms.values()} == {torch.float32}
