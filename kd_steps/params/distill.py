"""What ``params.yaml`` says of distillation: the teacher, the terms, and their weights over the epochs."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from kd_steps.core.distill.schedule import Phase, require_whole
from kd_steps.core.distill.terms import TermName, TermWeights
from kd_steps.params.training import Training
from kd_steps.params.types import CountOrZero, NonNegative, Positive, Section


class Phases(Section):
    warm_up: Phase
    distillation: Phase
    convergence: Phase

    @model_validator(mode="after")
    def _fractions_add_up(self) -> Phases:
        require_whole(self.by_name())
        return self

    def by_name(self) -> dict[str, Phase]:
        """The phases in their order."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class TeacherChoice(Section):
    min_lead_points: NonNegative
    min_student_share: Annotated[float, Field(gt=0, lt=1)]
    max_student_share: Annotated[float, Field(gt=0, le=1)]
    on_weak_teacher: Literal["warn", "refuse"]

    @model_validator(mode="after")
    def _a_range(self) -> TeacherChoice:
        if self.min_student_share > self.max_student_share:
            raise ValueError(
                f"min_student_share {self.min_student_share:g} is above max_student_share {self.max_student_share:g}"
            )
        return self


class Distill(Training):
    teacher: str
    answers: Literal["cached", "ema"]
    teacher_choice: TeacherChoice
    terms: TermWeights
    calibrate_batches: CountOrZero
    calibrate_share: dict[TermName, Positive]
    gamma_epochs: NonNegative
    lr_guard_ratio: NonNegative
    lr_guard_factor: Annotated[float, Field(gt=0, lt=1)]
    lr_guard_floor: Annotated[float, Field(gt=0, le=1)]
    phases: Phases

    @model_validator(mode="after")
    def _a_share_each(self) -> Distill:
        weighty = [name for name in get_args(TermName) if getattr(self.terms, f"{name}_weight")]
        if self.calibrate_batches and (bare := [name for name in weighty if name not in self.calibrate_share]):
            raise ValueError(f"calibrate_share gives none to {', '.join(bare)}, which calibrate_batches needs")
        return self
