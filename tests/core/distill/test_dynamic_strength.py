"""Boxes and vectors weighed by how far the student is off."""

from dataclasses import replace

import pytest
import torch
from heads_fixture import ALL, SIDES, adapters, student, teacher

from kd_steps.core.detect.answers import student_at
from kd_steps.core.detect.neck import vectors_at
from kd_steps.core.detect.outputs import top_score
from kd_steps.core.distill.losses.box_term import bin_term
from kd_steps.core.distill.losses.feature_term import l2_term
from kd_steps.core.distill.objective import distillation_terms

STRONG = replace(ALL, feature_kind="l2", box_temperature=2.0, dynamic_strength=3.0)


def raised(said, mine, strength):
    """(view, anchor) → the teacher's score there times 1 + strength × how far the student is off, by a loop."""
    found = {}
    for sample, anchor, logits in zip(said.sample.tolist(), said.anchor.tolist(), said.class_logits, strict=True):
        best = int(logits.argmax())
        score = logits[best].sigmoid().item()
        gap = abs(score - mine.class_logits[sample, best, anchor].detach().sigmoid().item())
        found[sample, anchor] = score * (1 + strength * gap)
    return found


def test_dynamic_strength_weighs_boxes_and_vectors_by_how_far_the_student_is_off():
    said, mine, through = teacher(), student(), adapters()
    terms = distillation_terms(mine, said, STRONG, 2.0, through)
    weight = raised(said.one_to_many, mine.one_to_many, 3.0)
    _, bins = student_at(mine.one_to_many.class_logits, mine.one_to_many.boxes, said.one_to_many)
    boxes = torch.tensor(
        [weight[key] for key in zip(said.one_to_many.sample.tolist(), said.one_to_many.anchor.tolist(), strict=True)]
    )
    same_sum = boxes * (top_score(said.one_to_many.class_logits).sum() / boxes.sum())
    assert terms["kd_box"].item() == pytest.approx(
        bin_term(bins, said.one_to_many.box_bins, same_sum, 2.0).item(), rel=1e-5
    )
    expected, first = 0.0, 0
    for level, (own, share) in enumerate(zip(said.neck.vectors, STRONG.feature_levels, strict=True)):
        keys = zip(own.sample.tolist(), (own.cell + first).tolist(), strict=True)
        adapted = through.vectors[level](vectors_at(mine.features[level], own))
        expected += share * l2_term(adapted, own.values, torch.tensor([weight[key] for key in keys])).item()
        first += SIDES[level] ** 2
    assert terms["kd_feature"].item() == pytest.approx(expected, rel=1e-5)
    plain = distillation_terms(mine, said, replace(STRONG, dynamic_strength=0.0), 2.0, through)
    assert {name for name in terms if terms[name].item() != plain[name].item()} == {"kd_box", "kd_feature"}


def test_no_dynamic_strength_is_the_same_to_the_bit():
    """Against the terms' own functions, which know nothing of it."""
    said, mine, through = teacher(), student(), adapters()
    terms = distillation_terms(mine, said, replace(STRONG, dynamic_strength=0.0), 2.0, through)
    _, bins = student_at(mine.one_to_many.class_logits, mine.one_to_many.boxes, said.one_to_many)
    assert torch.equal(
        terms["kd_box"], bin_term(bins, said.one_to_many.box_bins, top_score(said.one_to_many.class_logits), 2.0)
    )
    feature = torch.zeros(())
    for level, (own, share) in enumerate(zip(said.neck.vectors, STRONG.feature_levels, strict=True)):
        adapted = through.vectors[level](vectors_at(mine.features[level], own).float())
        feature = feature + share * l2_term(adapted, own.values, own.score)
    assert torch.equal(terms["kd_feature"], feature)


def test_dynamic_strength_stays_finite_where_the_teacher_says_nothing():
    said, through = teacher(threshold=0.9999), adapters()
    terms = distillation_terms(student(), said, STRONG, 2.0, through)
    assert len(said.one_to_many.anchor) == 0
    assert terms["kd_box"].item() == terms["kd_feature"].item() == 0
