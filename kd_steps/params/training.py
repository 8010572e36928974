"""What every training is told in ``params.yaml``: what is trained, for how long, and how it steps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kd_steps.params.types import Count, CountOrZero, Fraction, NonNegative, Optimizer, Positive, Section, Sha256


class ScaledModel(Section):
    """An Ultralytics architecture at a compound scale of our own."""

    architecture: str
    depth_multiple: Positive
    width_multiple: Positive
    max_channels: Count


class TrainingSteps(Section):
    """How a training steps: the group ``training`` of a section."""

    batch: Count
    nominal_batch: Count
    optimizer: Optimizer
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


class Training(Section):
    model: str | ScaledModel
    weights_sha256: Sha256 | None
    epochs: Count
    training: TrainingSteps
