"""Whether a teacher suits its student: far enough ahead of it, and not too much larger.

A teacher that is hardly better than the student has little to teach, and one that is far larger says things that the
student cannot follow: distilled from yolov5l, yolov5s has been seen to lose what yolov5m gave it. Between two networks
that are too far apart, assistants are trained, each from the one before it (Mirzadeh et al., "Improved Knowledge
Distillation via Teacher Assistant", AAAI 2020, arXiv 1902.03393).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any, Literal

Verdict = Literal["pass", "warn", "not measured"]


@dataclass(frozen=True)
class Finding:
    """What one rule found.

    Attributes:
        rule: ``lead`` or ``capacity``.
        verdict: how it ended.
        value: what was compared, None where it was not measured.
        text: the finding for a person, with its numbers.
    """

    rule: Literal["lead", "capacity"]
    verdict: Verdict
    value: float | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return asdict(self)


def judge_lead(teacher_map: float | None, plain_maps: Sequence[float], min_lead_points: float) -> Finding:
    """The 5-point rule: how far the teacher is ahead of the same student trained on the labels alone.

    Args:
        teacher_map: the teacher's mAP50-95 on the validation split, 0-1; None if nobody measured it.
        plain_maps: the plain student's on the same split, one a seed; their mean counts.
        min_lead_points: least lead, in points of mAP50-95 (0.01 each).
    """
    if teacher_map is None or not plain_maps:
        missing = "teacher" if teacher_map is None else "student alone"
        return Finding("lead", "not measured", None, f"lead of the teacher: not measured, the {missing} has no score")
    plain = mean(plain_maps)
    points = round(100 * (teacher_map - plain), 6)
    seeds = f"{len(plain_maps)} seed{'s' if len(plain_maps) > 1 else ''}"
    told = (
        f"lead of the teacher: {points:+.1f} points of mAP50-95 ({100 * teacher_map:.1f} against {100 * plain:.1f} of "
        f"the student alone, {seeds}), at least {min_lead_points:g} are wanted"
    )
    return Finding("lead", "pass" if points >= min_lead_points else "warn", points, told)


def judge_capacity(teacher_parameters: int, student_parameters: int, min_share: float, max_share: float) -> Finding:
    """The capacity rule: the student's number of weights as a share of its teacher's.

    Args:
        teacher_parameters: weights of the teacher.
        student_parameters: weights of the student.
        min_share: a smaller student cannot follow.
        max_share: a larger student saves little.
    """
    share = student_parameters / teacher_parameters
    told = (
        f"capacity: the student has {share:.2f} of its teacher's weights ({student_parameters / 1e6:.2f} M of "
        f"{teacher_parameters / 1e6:.2f} M), sound is {min_share:.2f}-{max_share:.2f}"
    )
    if share < min_share:
        return Finding("capacity", "warn", share, f"{told}; so large a teacher may be more than it can follow")
    if share > max_share:
        return Finding("capacity", "warn", share, f"{told}; a larger teacher would have more to teach")
    return Finding("capacity", "pass", share, told)


def assistant_sizes(teacher_parameters: int, student_parameters: int, min_share: float) -> list[int]:
    """Weights of the fewest assistants that leave no step steeper than ``min_share``, largest first.

    The sizes are spaced evenly on a logarithmic scale: one assistant is the geometric mean of teacher and student.

    Raises:
        ValueError: ``min_share`` is not between 0 and 1.
    """
    if not 0 < min_share < 1:
        raise ValueError(f"min_share must lie between 0 and 1, got {min_share}")
    share = student_parameters / teacher_parameters
    steps = max(1, math.ceil(math.log(share) / math.log(min_share) - 1e-9))
    return [round(teacher_parameters * share ** (number / steps)) for number in range(1, steps)]
