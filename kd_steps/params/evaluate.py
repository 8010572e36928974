"""What ``params.yaml`` says of how engines are measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kd_steps.params.types import Count, NonNegative, Positive, Section


class Latency(Section):
    warm_up_s: NonNegative
    rounds: Annotated[int, Field(ge=20)]
    seconds: Positive
    threads: Count


class Evaluate(Section):
    confidence: Annotated[float, Field(gt=0, lt=1)]
    operating_confidence: Annotated[float, Field(gt=0, lt=1)]
    nms_iou: Annotated[float, Field(gt=0, lt=1)]
    max_detections: Count
    bootstrap_samples: Annotated[int, Field(ge=100)]
    latency: Latency
