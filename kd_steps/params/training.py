"""What ``params.yaml`` says of trainings; :mod:`kd_steps.params` is the one door."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from kd_steps.params.types import Count, CountOrZero, Fraction, NonNegative, Positive, Section, Sha256

TermName = Literal["class", "box", "attention", "channel", "feature", "relational"]


class ScaledModel(Section):
    """An Ultralytics architecture at a compound scale of our own."""

    architecture: str
    depth_multiple: Positive
    width_multiple: Positive
    max_channels: Count


class Training(Section):
    model: str | ScaledModel
    weights_sha256: Sha256 | None
    epochs: Count
    batch: Count
    nominal_batch: Count
    optimizer: Literal["SGD", "Adam", "AdamW", "MuSGD", "auto"]
    lr0: Positive
    lrf: Annotated[float, Field(gt=0, le=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    warmup_epochs: NonNegative
    close_mosaic_fraction: Fraction
    val_interval_epochs: Count
    freeze_layers: CountOrZero
    freeze_blocks: CountOrZero
    head_only_epochs: CountOrZero
    clip_norm: NonNegative
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    ema_ramp_updates: Positive


class TrainTeacher(Training):
    weights: str | None
    epochs: CountOrZero

    @model_validator(mode="after")
    def _something_is_there(self) -> TrainTeacher:
        if self.epochs == 0 and self.weights is None:
            raise ValueError("epochs: 0 takes the weights as they are, but weights is null; name a weight file")
        return self


class MoreTeacher(Section):
    """A teacher beside the first one."""

    weights: str
    weights_sha256: Sha256
    weight: Positive
    classes: list[str]


class CacheLogits(Section):
    views: CountOrZero
    closing_views: CountOrZero
    score_threshold: Annotated[float, Field(ge=0, lt=1)]
    max_anchors: Annotated[int, Field(ge=1, le=65535)]
    attention: bool
    pooled: bool
    max_vectors: CountOrZero
    pixels: bool
    batch: Count
    processes: CountOrZero
    shard_views: Count
    more_teachers: list[MoreTeacher]


class AssistantStep(Section):
    """One teacher assistant."""

    taught_by: str
    model: str | ScaledModel
    weights_sha256: Sha256 | None = None
    epochs: Count


class Assistant(Section):
    chain: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")], AssistantStep]

    @property
    def last(self) -> str:
        """The folder below ``models/`` that teaches the student."""
        return f"assistants/{list(self.chain)[-1]}" if self.chain else "teacher"

    @model_validator(mode="after")
    def _each_is_taught_by_the_one_before(self) -> Assistant:
        before = "teacher"
        for name, step in self.chain.items():
            if step.taught_by != before:
                raise ValueError(
                    f"chain: {name} is taught_by '{step.taught_by}', but the one before it is '{before}': put the "
                    "assistants in their order, largest first, and let each name the one before"
                )
            before = f"assistants/{name}"
        return self


class PlainStudent(Section):
    seeds: list[CountOrZero]

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value):
            raise ValueError("names a seed twice")
        return value


class Phase(Section):
    """One phase of the distillation schedule: its share of the epochs, the two weights and the temperature."""

    fraction: Fraction
    soft_weight: NonNegative
    hard_weight: NonNegative
    temperature: Positive


class Phases(Section):
    warm_up: Phase
    distillation: Phase
    convergence: Phase

    @model_validator(mode="after")
    def _fractions_add_up(self) -> Phases:
        total = self.warm_up.fraction + self.distillation.fraction + self.convergence.fraction
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the three fractions must add up to 1, they add up to {total:g}")
        return self


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
    class_weight: NonNegative
    box_weight: NonNegative
    box_kind: Literal["bins", "decoded"]
    box_temperature: Positive
    attention_weight: NonNegative
    channel_weight: NonNegative
    feature_weight: NonNegative
    feature_kind: Literal["l2", "cwd", "pkd"]
    feature_temperature: Positive
    feature_levels: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    relational_weight: NonNegative
    dynamic_strength: NonNegative
    calibrate_batches: CountOrZero
    calibrate_share: dict[TermName, Positive]
    gamma_epochs: NonNegative
    lr_guard_ratio: NonNegative
    lr_guard_factor: Annotated[float, Field(gt=0, lt=1)]
    lr_guard_floor: Annotated[float, Field(gt=0, le=1)]
    phases: Phases

    @model_validator(mode="after")
    def _a_share_each(self) -> Distill:
        weighty = [name for name in get_args(TermName) if getattr(self, f"{name}_weight")]
        if self.calibrate_batches and (bare := [name for name in weighty if name not in self.calibrate_share]):
            raise ValueError(f"calibrate_share gives none to {', '.join(bare)}, which calibrate_batches needs")
        return self


class FewShot(Section):
    epochs: Count
    batch: Count
    lr0: Positive
    close_mosaic_fraction: Fraction
    new_part_share: Annotated[float, Field(gt=0, lt=1)]
    iterations_per_epoch: Count
    freeze_layers: CountOrZero
    base_distillation_weight: NonNegative


class Compute(Section):
    device: Annotated[str, Field(pattern=r"^(auto|cpu|\d+(,\d+)*)$")]
    processes: Count
    precision: Literal["auto", "fp32", "bf16", "amp"]
    loader_workers: CountOrZero
    cache_images: Literal["auto", "ram", "none"]
