"""The distillation loss: the terms of one batch, by name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kd_steps.core.losses.box_term import bin_term, decode_sides, decoded_term
from kd_steps.core.losses.class_term import class_term, top_score
from kd_steps.core.teacher_records import TeacherBatch, student_at


@dataclass(frozen=True)
class TermWeights:
    """Multipliers of the terms and the temperature of the bins."""

    class_weight: float
    box_weight: float
    box_temperature: float


def distillation_terms(
    class_logits: Tensor, box_outputs: Tensor, teacher: TeacherBatch, weights: TermWeights, temperature: float
) -> dict[str, Tensor]:
    """The weighted terms of one batch.

    Args:
        class_logits: the student's, shape (batch, classes, anchors); classes beyond the teacher's are left alone.
        box_outputs: the student's, shape (batch, 4 · bins, anchors).
        teacher: the teacher's answers to the same views.
        weights: multipliers of the terms.
        temperature: of the class term.

    Returns:
        ``kd_class`` and ``kd_box``, scalars, fp32, means over the batch.
    """
    known_classes = teacher.class_logits.shape[1]
    student_logits, student_bins = student_at(class_logits[:, :known_classes], box_outputs, teacher)
    score = top_score(teacher.class_logits)
    if student_bins.shape[-1] == teacher.box_bins.shape[-1] > 1:
        box = bin_term(student_bins, teacher.box_bins, score, weights.box_temperature)
    else:
        box = decoded_term(decode_sides(student_bins), decode_sides(teacher.box_bins), score)
    return {
        "kd_class": weights.class_weight * class_term(student_logits, teacher.class_logits, temperature),
        "kd_box": weights.box_weight * box,
    }
