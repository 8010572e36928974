"""The terms of a batch, by name."""

from dataclasses import replace

import pytest
import torch
from heads_fixture import ALL, ANCHORS, NAMES, THEIRS, adapters, dense, neck, student, teacher

from kd_steps.core.detect.answers import kept_anchors, sparse_answers, student_at
from kd_steps.core.detect.neck import neck_answers, pooled_channels, vectors_at
from kd_steps.core.detect.outputs import BranchOutputs, DetectorOutputs, decode_sides, top_score
from kd_steps.core.detect.teacher_targets import TeacherTargets, batch_targets
from kd_steps.core.distill.losses.attention_term import channel_attention_term, spatial_attention_term
from kd_steps.core.distill.losses.box_term import bin_term, decoded_term
from kd_steps.core.distill.losses.class_term import background_term, class_term
from kd_steps.core.distill.losses.feature_term import cwd_term, l2_term, pkd_term
from kd_steps.core.distill.losses.relational_term import relational_term
from kd_steps.core.distill.neck_adapters import NeckAdapters
from kd_steps.core.distill.objective import distillation_terms
from kd_steps.core.distill.terms import TermWeights

WEIGHTS = TermWeights(class_weight=1.0, box_weight=1.0, box_temperature=2.0)


def head_terms(mine, theirs, temperature):
    logits, bins = student_at(mine.class_logits, mine.boxes, theirs)
    score, kept = top_score(theirs.class_logits), kept_anchors(theirs, ANCHORS)
    background = background_term(mine.class_logits, kept, theirs.ceiling, score, temperature)
    assert background > 0
    spoken = class_term(logits, theirs.class_logits, temperature)
    return (spoken + background).item(), bin_term(bins, theirs.box_bins, score, 2.0).item()


def test_head_terms_are_those_of_the_kept_anchors_times_their_weights():
    said, mine = teacher(), student()
    terms = distillation_terms(mine, said, TermWeights(class_weight=3.0, box_weight=5.0, box_temperature=2.0), 4.0)
    expected = head_terms(mine.one_to_many, said.one_to_many, 4.0)
    assert list(terms) == ["kd_class", "kd_box"]
    assert terms["kd_class"].item() == pytest.approx(3 * expected[0])
    assert terms["kd_box"].item() == pytest.approx(5 * expected[1])


def test_neck_terms_are_those_of_the_adapted_student():
    said, mine, adapt = teacher(), student(), adapters()
    terms = distillation_terms(mine, said, ALL, 4.0, adapt)
    pooled = pooled_channels(mine.features)
    channel = channel_attention_term(adapt.pooled(pooled), said.neck.pooled)
    assert terms["kd_attention"].item() == pytest.approx(
        spatial_attention_term(mine.features, said.neck.attention).item()
    )
    assert terms["kd_channel"].item() == pytest.approx(channel.item())
    assert terms["kd_relational"].item() == pytest.approx(relational_term(pooled, said.neck.pooled).item())
    assert min(term.item() for term in terms.values()) > 1e-3


@pytest.mark.parametrize("kind", ["l2", "cwd", "pkd"])
def test_the_feature_term_is_a_weighted_sum_over_the_levels(kind):
    said, mine, adapt = teacher(), student(), adapters()
    weights = TermWeights(feature_weight=2.0, feature_kind=kind, feature_temperature=3.0, feature_levels=(0.7, 0.3))
    expected = 0.0
    for level, share in enumerate((0.7, 0.3)):
        theirs = said.neck.vectors[level]
        adapted = adapt.vectors[level](vectors_at(mine.features[level], theirs))
        expected += (
            share
            * {
                "l2": l2_term(adapted, theirs.values, theirs.score),
                "cwd": cwd_term(adapted, theirs.values, 3.0),
                "pkd": pkd_term(adapted, theirs.values),
            }[kind].item()
        )
    found = distillation_terms(mine, said, weights, 1.0, adapt)
    assert list(found) == ["kd_feature"]
    assert found["kd_feature"].item() == pytest.approx(2 * expected, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_scales_its_own_term_and_0_leaves_it_out(name):
    said, mine, adapt = teacher(two_branches=True), student(two_branches=True), adapters()
    plain = distillation_terms(mine, said, ALL, 2.0, adapt)
    scaled = distillation_terms(mine, said, replace(ALL, **{NAMES[name]: 7.0}), 2.0, adapt)
    assert {n: term.item() / plain[n].item() for n, term in scaled.items()} == pytest.approx(
        {n: 7.0 if n == name else 1.0 for n in NAMES}, rel=1e-5
    )
    without = distillation_terms(mine, said, replace(ALL, **{NAMES[name]: 0.0}), 2.0, adapt)
    assert {n: term.item() for n, term in without.items()} == pytest.approx(
        {n: term.item() for n, term in plain.items() if n != name}
    )


@pytest.mark.parametrize(
    "weighted", [(), ("kd_box",), ("kd_feature", "kd_class"), ("kd_relational", "kd_attention"), NAMES]
)
def test_names_are_the_terms_in_their_order(weighted):
    weights = TermWeights(**{NAMES[name]: 0.5 for name in weighted}, feature_levels=(0.5, 0.5))
    terms = distillation_terms(student(), teacher(), weights, 2.0, adapters())
    assert list(terms) == list(weights.names())
    assert set(terms) == set(weighted)
    assert list(weights.by_name()) == list(NAMES)


@pytest.mark.parametrize("name", ["kd_channel", "kd_feature"])
def test_a_term_that_compares_channels_asks_for_adapters(name):
    weights = TermWeights(**{NAMES[name]: 1.0}, feature_levels=(0.5, 0.5))
    with pytest.raises(ValueError, match="adapters are needed"):
        distillation_terms(student(), teacher(), weights, 1.0)
    assert set(distillation_terms(student(), teacher(), replace(ALL, channel_weight=0, feature_weight=0), 1.0)) == {
        *("kd_class", "kd_box", "kd_attention", "kd_relational")
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("kd_attention", {"attention": False}, r"no attention maps \(cache_logits\.attention\)"),
        ("kd_channel", {"pooled": False}, r"no pooled channels \(cache_logits\.pooled\)"),
        ("kd_relational", {"pooled": False}, r"no pooled channels \(cache_logits\.pooled\)"),
        ("kd_feature", {"max_vectors": 0}, r"no neck vectors \(cache_logits\.max_vectors\)"),
    ],
)
def test_a_term_whose_answers_are_not_there_is_refused(name, content, message):
    weights = TermWeights(**{NAMES[name]: 1.0}, feature_levels=(0.5, 0.5))
    with pytest.raises(ValueError, match=message):
        distillation_terms(student(), teacher(**content), weights, 1.0, adapters())
    others = replace(ALL, **{weight: 0.0 for n, weight in NAMES.items() if n not in ("kd_class", "kd_box")})
    assert set(distillation_terms(student(), teacher(**content), others, 1.0)) == {"kd_class", "kd_box"}


def test_shares_of_other_levels_than_the_necks_are_refused():
    with pytest.raises(ValueError, match="3 feature level weights for a neck of 2 levels"):
        distillation_terms(student(), teacher(), TermWeights(feature_weight=1.0), 1.0, adapters())


def test_two_branches_are_both_distilled_where_the_teacher_has_both():
    said, mine = teacher(two_branches=True), student(two_branches=True)
    many, one = head_terms(mine.one_to_many, said.one_to_many, 4.0), head_terms(mine.one_to_one, said.one_to_one, 4.0)
    terms = distillation_terms(mine, said, WEIGHTS, 4.0)
    assert terms["kd_class"].item() == pytest.approx(many[0] + one[0])
    assert terms["kd_box"].item() == pytest.approx(many[1] + one[1])
    sum(terms.values()).backward()
    assert mine.one_to_one.class_logits.grad.abs().sum() > 0
    assert mine.one_to_one.boxes.grad.abs().sum() > 0


@pytest.mark.parametrize(("mine", "theirs"), [(True, False), (False, True), (False, False)])
def test_one_branch_alone_is_not_distilled_from_or_into(mine, theirs):
    said, outputs = teacher(two_branches=theirs), student(two_branches=mine)
    terms = distillation_terms(outputs, said, WEIGHTS, 4.0)
    assert [term.item() for term in terms.values()] == pytest.approx(
        head_terms(outputs.one_to_many, said.one_to_many, 4.0)
    )
    sum(terms.values()).backward()
    assert not mine or outputs.one_to_one.class_logits.grad is None


def test_zero_where_the_student_is_the_teacher():
    mine = DetectorOutputs(
        *(BranchOutputs(*(t.requires_grad_() for t in dense(seed))) for seed in (1, 201)),
        [level.requires_grad_() for level in neck(51, THEIRS)],
    )
    same = NeckAdapters(THEIRS, THEIRS)
    weights = replace(ALL, feature_weight=0.0, box_temperature=2.0)
    with torch.no_grad():
        same.pooled.weight.copy_(torch.eye(sum(THEIRS)))
        same.pooled.bias.zero_()
    terms = distillation_terms(mine, teacher(two_branches=True), weights, 4.0, same)
    sum(terms.values()).backward()
    assert all(abs(term.item()) < 1e-5 for term in terms.values())
    for leaf in (
        mine.one_to_many.class_logits,
        mine.one_to_many.boxes,
        mine.one_to_one.class_logits,
        mine.one_to_one.boxes,
        *mine.features,
    ):
        assert leaf.grad.abs().max() < 1e-5


@pytest.mark.parametrize(("student_bins", "teacher_bins"), [(1, 1), (1, 4), (4, 1), (8, 4)])
def test_heads_with_other_bins_are_compared_by_decoded_boxes(student_bins, teacher_bins):
    said, mine = teacher(bins=teacher_bins), student(bins=student_bins)
    found = distillation_terms(mine, said, WEIGHTS, 1.0)["kd_box"]
    _, raw = student_at(mine.one_to_many.class_logits, mine.one_to_many.boxes, said.one_to_many)
    expected = decoded_term(
        decode_sides(raw), decode_sides(said.one_to_many.box_bins), top_score(said.one_to_many.class_logits)
    )
    assert found.item() == pytest.approx(expected.item())
    assert found.item() > 0


def test_boxes_are_compared_decoded_where_that_is_asked_for():
    said, mine = teacher(), student()
    weights = TermWeights(box_weight=5.0, box_kind="decoded")
    found = distillation_terms(mine, said, weights, 1.0)["kd_box"]
    _, bins = student_at(mine.one_to_many.class_logits, mine.one_to_many.boxes, said.one_to_many)
    score = top_score(said.one_to_many.class_logits)
    expected = decoded_term(decode_sides(bins), decode_sides(said.one_to_many.box_bins), score)
    assert found.item() == pytest.approx(5 * expected.item())
    assert found.item() != pytest.approx(5 * bin_term(bins, said.one_to_many.box_bins, score, 1.0).item())


def test_classes_the_teacher_does_not_know_are_left_alone():
    mine = student(classes=5)
    sum(distillation_terms(mine, teacher(), WEIGHTS, 2.0).values()).backward()
    assert mine.one_to_many.class_logits.grad[:, :2].abs().sum() > 0
    assert mine.one_to_many.class_logits.grad[:, 2:].abs().sum() == 0


@pytest.mark.parametrize("kind", ["l2", "cwd", "pkd"])
def test_a_batch_the_teacher_says_nothing_of_is_zero_and_can_be_differentiated(kind):
    mine, adapt = student(), adapters()
    weights = replace(ALL, attention_weight=0.0, channel_weight=0.0, relational_weight=0.0, feature_kind=kind)
    terms = distillation_terms(mine, teacher(threshold=0.9999), weights, 2.0, adapt)
    sum(terms.values()).backward()
    assert {name: term.item() for name, term in terms.items()} == {"kd_class": 0, "kd_box": 0, "kd_feature": 0}
    assert mine.one_to_many.class_logits.grad.abs().sum() == 0
    assert all(parameter.grad.abs().sum() == 0 for parameter in adapt.vectors.parameters())


def test_what_the_student_sees_on_a_bare_board_is_taken_back():
    bare = dense(1)[0] - 30
    said = sparse_answers(bare, dense(1)[1], 0.01, 300)
    necks = neck_answers(neck(51, THEIRS), said, False, False, 0)
    batch = batch_targets([TeacherTargets(0, many, None, own, (9, 4)) for many, own in zip(said, necks, strict=True)])
    mine = student()
    distillation_terms(mine, batch, WEIGHTS, 1.0)["kd_class"].backward()
    seen = mine.one_to_many.class_logits.sigmoid() > 0.01
    assert (mine.one_to_many.class_logits.grad[seen] > 0).all()
    assert seen.any()


def test_every_term_reaches_the_students_neck_or_head_and_the_adapters_learn():
    for name in NAMES:
        mine, adapt = student(), adapters()
        weights = replace(ALL, **{weight: float(n == name) for n, weight in NAMES.items()})
        distillation_terms(mine, teacher(), weights, 2.0, adapt)[name].backward()
        leaves = (
            [mine.one_to_many.class_logits]
            if name == "kd_class"
            else [mine.one_to_many.boxes]
            if name == "kd_box"
            else mine.features
        )
        assert all(leaf.grad.abs().sum() > 0 for leaf in leaves)
        trained = {"kd_channel": adapt.pooled, "kd_feature": adapt.vectors}.get(name)
        for module in (adapt.pooled, adapt.vectors):
            for parameter in module.parameters():
                learns = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
                assert learns is (module is trained)


def test_half_precision_outputs_give_fp32_terms():
    logits, boxes = (t.bfloat16() for t in dense(2))
    mine = DetectorOutputs(BranchOutputs(logits, boxes), None, [level.bfloat16() for level in neck(2)])
    terms = distillation_terms(mine, teacher(), ALL, 2.0, adapters())
    assert {term.dtype for term in terms.values()} == {torch.float32}
