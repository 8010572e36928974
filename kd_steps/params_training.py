"""Sections of ``params.yaml`` that describe trainings; read through :mod:`kd_steps.params`, the one door."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A section of ``params.yaml``: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScaledModel(Section):
    """An Ultralytics architecture at a compound scale of our own."""

    architecture: str
    depth_multiple: Positive
    width_multiple: Positive
    max_channels: Count


class Training(Section):
    model: str | ScaledModel
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
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
    shard_views: Count


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


class Distill(Training):
    class_weight: NonNegative
    box_weight: NonNegative
    box_temperature: Positive
    attention_weight: NonNegative
    channel_weight: NonNegative
    feature_weight: NonNegative
    feature_kind: Literal["l2", "cwd", "pkd"]
    feature_temperature: Positive
    feature_levels: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    relational_weight: NonNegative
    calibrate_batches: CountOrZero
    calibrate_share: Positive
    gamma_epochs: NonNegative
    lr_guard_ratio: NonNegative
    lr_guard_factor: Annotated[float, Field(gt=0, lt=1)]
    lr_guard_floor: Annotated[float, Field(gt=0, le=1)]
    phases: Phases
