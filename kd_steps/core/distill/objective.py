"""The distillation loss: the terms of one batch, by name."""

from __future__ import annotations

import torch
from torch import Tensor

from kd_steps.core.detect.answers import AnswerBatch, kept_anchors, student_at
from kd_steps.core.detect.neck import NeckBatch, VectorBatch, pooled_channels, vectors_at
from kd_steps.core.detect.outputs import BranchOutputs, DetectorOutputs, decode_sides, top_score
from kd_steps.core.detect.teacher_targets import TargetBatch
from kd_steps.core.distill.losses.attention_term import channel_attention_term, spatial_attention_term
from kd_steps.core.distill.losses.box_term import bin_term, decoded_term
from kd_steps.core.distill.losses.class_term import background_term, class_term
from kd_steps.core.distill.losses.difficulty import class_gap, harder_first
from kd_steps.core.distill.losses.feature_term import cwd_term, l2_term, pkd_term
from kd_steps.core.distill.losses.relational_term import relational_term
from kd_steps.core.distill.neck_adapters import NeckAdapters
from kd_steps.core.distill.terms import TermWeights


def distillation_terms(
    student: DetectorOutputs,
    teacher: TargetBatch,
    weights: TermWeights,
    temperature: float,
    adapters: NeckAdapters | None = None,
) -> dict[str, Tensor]:
    """The weighted terms of one batch.

    Class and box terms compare branch with branch where both heads have two: the one-to-many branches carry the
    gradient to the neck, the one-to-one branches teach the student's final head. A teacher without a one-to-one branch
    leaves the student's alone: its many answers an object would teach it duplicates.

    Args:
        student: its outputs; classes beyond the teacher's are left alone.
        teacher: the teacher's answers to the same views.
        weights: multipliers of the terms.
        temperature: of the class term.
        adapters: student channels → teacher channels, for the feature and the channel term.

    Returns:
        One scalar a term with a weight, fp32, a mean over the batch.

    Raises:
        ValueError: a term has a weight, but the teacher's answers or the adapters that it needs are not there.
    """
    factors = weights.by_name()
    found: dict[str, Tensor] = {}
    if weights.class_weight or weights.box_weight:
        found["kd_class"], found["kd_box"] = _head_terms(student.one_to_many, teacher.one_to_many, weights, temperature)
        if student.one_to_one is not None and teacher.one_to_one is not None:
            final = _head_terms(student.one_to_one, teacher.one_to_one, weights, temperature)
            found["kd_class"], found["kd_box"] = found["kd_class"] + final[0], found["kd_box"] + final[1]
    found |= _neck_terms(student, teacher, weights, adapters)
    return {name: factors[name] * found[name] for name in weights.names()}


def _head_terms(
    outputs: BranchOutputs, teacher: AnswerBatch, weights: TermWeights, temperature: float
) -> tuple[Tensor, Tensor]:
    """Class and box term of one branch, without their multipliers."""
    known = outputs.class_logits[:, : teacher.class_logits.shape[1]]
    student_logits, student_bins = student_at(known, outputs.boxes, teacher)
    teacher_scores, gap = top_score(teacher.class_logits), class_gap(student_logits, teacher.class_logits)
    score = harder_first(teacher_scores, gap, weights.dynamic_strength)
    if weights.box_kind == "bins" and student_bins.shape[-1] == teacher.box_bins.shape[-1] > 1:
        box = bin_term(student_bins, teacher.box_bins, score, weights.box_temperature)
    else:
        box = decoded_term(decode_sides(student_bins), decode_sides(teacher.box_bins), score)
    foreground = class_term(student_logits, teacher.class_logits, temperature)
    kept = kept_anchors(teacher, known.shape[2])
    background = background_term(known, kept, teacher.ceiling, teacher_scores, temperature)
    return foreground + background, box


def _neck_terms(
    student: DetectorOutputs, answers: TargetBatch, weights: TermWeights, adapters: NeckAdapters | None
) -> dict[str, Tensor]:
    """The terms that compare what the necks show, without their multipliers."""
    features, teacher = student.features, answers.neck
    _require_content(teacher, weights)
    found: dict[str, Tensor] = {}
    if weights.attention_weight:
        found["kd_attention"] = spatial_attention_term(features, teacher.attention)
    if weights.relational_weight:
        found["kd_relational"] = relational_term(pooled_channels(features), teacher.pooled)
    if weights.channel_weight or weights.feature_weight:
        if adapters is None:
            raise ValueError("the feature and the channel term compare channels of two networks: adapters are needed")
        if weights.channel_weight:
            found["kd_channel"] = channel_attention_term(adapters.pooled(pooled_channels(features)), teacher.pooled)
        if weights.feature_weight:
            found["kd_feature"] = _feature_term(student, answers, weights, adapters)
    return found


def _require_content(teacher: NeckBatch, weights: TermWeights) -> None:
    """Refuse weights of terms that compare what the teacher was not asked for; they would be 0, or of noise."""
    needs = {
        "attention maps (cache_logits.attention)": (weights.attention_weight, teacher.attention.shape[1]),
        "pooled channels (cache_logits.pooled)": (
            weights.channel_weight + weights.relational_weight,
            teacher.pooled.shape[1],
        ),
        "neck vectors (cache_logits.max_vectors)": (weights.feature_weight, len(teacher.vectors)),
    }
    if missing := [name for name, (weight, there) in needs.items() if weight and not there]:
        raise ValueError(f"a term has a weight, but the teacher's answers have no {' and no '.join(missing)}")


def _feature_term(
    student: DetectorOutputs, teacher: TargetBatch, weights: TermWeights, adapters: NeckAdapters
) -> Tensor:
    features, vectors = student.features, teacher.neck.vectors
    if len(weights.feature_levels) != len(features):
        raise ValueError(f"{len(weights.feature_levels)} feature level weights for a neck of {len(features)} levels")
    total, first = torch.zeros((), device=features[0].device), 0
    for level, (maps, own, share) in enumerate(zip(features, vectors, weights.feature_levels, strict=True)):
        adapted = adapters.vectors[level](vectors_at(maps, own).float())
        match weights.feature_kind:
            case "l2":
                term = l2_term(
                    adapted, own.values, _vector_weights(student.one_to_many, teacher.one_to_many, own, first, weights)
                )
            case "cwd":
                term = cwd_term(adapted, own.values, weights.feature_temperature)
            case "pkd":
                term = pkd_term(adapted, own.values)
        total, first = total + share * term, first + maps.shape[2] * maps.shape[3]
    return total


def _vector_weights(
    student: BranchOutputs, teacher: AnswerBatch, vectors: VectorBatch, first: int, weights: TermWeights
) -> Tensor:
    """The teacher's score at a level's vectors, raised where the student is far from it; ``first`` is its anchor 0."""
    if weights.dynamic_strength == 0:
        return vectors.score
    known, total = teacher.class_logits.shape[1], student.class_logits.shape[2]
    logits, _ = student_at(student.class_logits[:, :known], student.boxes, teacher)
    gap = class_gap(logits, teacher.class_logits)
    wanted = vectors.sample * total + vectors.cell + first
    rows = torch.searchsorted(teacher.sample * total + teacher.anchor, wanted)  # each vector stands at a kept anchor
    return harder_first(vectors.score, gap[rows], weights.dynamic_strength)
