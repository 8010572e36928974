"""Cutting dense head outputs down to answers, against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.core.detect.answers import batch_answers, keep_anchors, kept_anchors, sparse_answers, student_at


def dense(seed, batch=3, classes=2, bins=4, anchors=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, classes, anchors, generator=generator) * 3, torch.randn(
        batch, 4 * bins, anchors, generator=generator
    )


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), threshold=st.floats(0, 0.99), most=st.integers(1, 15))
def test_kept_anchors_equal_brute_force(seed, threshold, most):
    logits = dense(seed)[0][0]
    scores = [max(1 / (1 + np.exp(-float(v))) for v in logits[:, a]) for a in range(logits.shape[1])]
    good = [a for a in range(len(scores)) if scores[a] > threshold]
    expected = sorted(sorted(good, key=lambda a: -scores[a])[:most])
    assert keep_anchors(logits, threshold, most).tolist() == expected


def test_answers_hold_the_outputs_of_their_anchors():
    logits, boxes = dense(1)
    answers = sparse_answers(logits, boxes, 0.5, 5)
    assert len(answers) == len(logits)
    for sample, answer in enumerate(answers):
        assert 0 < len(answer.anchors) <= 5
        for row, anchor in enumerate(answer.anchors):
            assert answer.class_logits[row].tolist() == logits[sample, :, anchor].tolist()
            for side in range(4):
                assert answer.box_bins[row, side].tolist() == boxes[sample, 4 * side : 4 * side + 4, anchor].tolist()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), threshold=st.floats(0, 0.99), most=st.integers(1, 15))
def test_no_anchor_that_was_left_out_scores_above_the_ceiling(seed, threshold, most):
    logits, boxes = dense(seed)
    batch = batch_answers(sparse_answers(logits, boxes, threshold, most))
    kept = kept_anchors(batch, logits.shape[2])
    assert torch.equal(kept.nonzero(), torch.stack([batch.sample, batch.anchor], dim=1))
    scores = logits.amax(dim=1).sigmoid()
    for sample, ceiling in enumerate(batch.ceiling.tolist()):
        left_out, inside = scores[sample][~kept[sample]].tolist(), scores[sample][kept[sample]].tolist()
        assert all(score <= ceiling + 1e-6 for score in left_out)
        # no lower ceiling can be told from what was kept
        assert ceiling == pytest.approx(threshold if len(inside) < most else min(inside), abs=1e-6)


def test_a_view_without_any_anchor():
    logits, boxes = dense(2)
    logits[1] = -9
    answers = sparse_answers(logits, boxes, 0.2, 300)
    empty = answers[1]
    assert (empty.anchors.shape, empty.class_logits.shape, empty.box_bins.shape) == ((0,), (0, 2), (0, 4, 4))
    batch = batch_answers(answers)
    assert 1 not in batch.sample.tolist()
    alone = batch_answers([empty])
    assert (alone.sample.shape, alone.class_logits.shape, alone.box_bins.shape) == ((0,), (0, 2), (0, 4, 4))


def test_a_batch_lies_end_to_end_and_finds_the_student_there():
    teacher_logits, teacher_boxes = dense(3)
    student_logits, student_boxes = dense(4, classes=2, bins=1)
    batch = batch_answers(sparse_answers(teacher_logits, teacher_boxes, 0.4, 6))
    logits, boxes = student_at(student_logits, student_boxes, batch)
    assert sorted(batch.sample.tolist()) == batch.sample.tolist()
    for row, (sample, anchor) in enumerate(zip(batch.sample.tolist(), batch.anchor.tolist(), strict=True)):
        assert batch.class_logits[row].tolist() == teacher_logits[sample, :, anchor].tolist()
        assert logits[row].tolist() == student_logits[sample, :, anchor].tolist()
        assert boxes[row, :, 0].tolist() == student_boxes[sample, :, anchor].tolist()


def test_order_of_the_batch_is_the_order_of_the_answers():
    answers = sparse_answers(*dense(5), 0.4, 6)
    forward, backward = batch_answers(answers), batch_answers(answers[::-1])
    first = forward.class_logits[forward.sample == 0]
    assert torch.equal(first, backward.class_logits[backward.sample == 2])


def test_a_teacher_in_half_precision_gives_fp32_answers():
    logits, boxes = dense(6)
    answer = sparse_answers(logits.bfloat16(), boxes.bfloat16(), 0.4, 6)[0]
    assert answer.class_logits.dtype == answer.box_bins.dtype == np.float32


def test_gradient_reaches_only_the_kept_anchors():
    batch = batch_answers(sparse_answers(*dense(7), 0.6, 4))
    logits, boxes = (t.requires_grad_() for t in dense(8))
    picked, _ = student_at(logits, boxes, batch)
    picked.sum().backward()
    assert logits.grad.sum().item() == picked.numel()
