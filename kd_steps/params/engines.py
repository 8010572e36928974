"""What ``params.yaml`` says of engines, from export to register; :mod:`kd_steps.params` is the one door."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from kd_steps.params.types import Count, Fraction, NonNegative, Positive, Section


class Export(Section):
    targets: Annotated[list[Literal["onnx-fp32", "ort-cpu-int8", "openvino-fp16"]], Field(min_length=1)]
    opset: Annotated[int, Field(ge=13, le=21)]
    calibration_images: Count
    golden_images: Count

    @field_validator("targets")
    @classmethod
    def _onnx_is_the_parent(cls, value: list[str]) -> list[str]:
        if "onnx-fp32" not in value:
            raise ValueError("must contain 'onnx-fp32': every other engine is built from it")
        if len(set(value)) != len(value):
            raise ValueError("names a target twice")
        return value


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


class Report(Section):
    sample_images: Count
    title: str


class Register(Section):
    experiment: str
