"""The training on new parts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kd_steps.params.types import Count, CountOrZero, Fraction, NonNegative, Optimizer, Positive, Section


class FewShot(Section):
    epochs: Count
    batch: Count
    optimizer: Optimizer | None = None
    lr0: Positive
    close_mosaic_fraction: Fraction
    new_part_share: Annotated[float, Field(gt=0, lt=1)]
    iterations_per_epoch: Count
    freeze_layers: CountOrZero
    base_distillation_weight: NonNegative
