"""The limits that an engine must keep."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kd_steps.params.types import Fraction, NonNegative, Positive, Section


class Gate(Section):
    required_targets: Annotated[list[str], Field(min_length=1)]
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)]
    min_map_ratio: NonNegative
    max_latency_ratio: Positive
    min_compression_ratio: Positive
    min_class_ap50: Fraction
    min_new_class_ap50: Fraction
    pass_unmeasured_new_classes: bool
    max_false_alarms_per_picture: NonNegative
