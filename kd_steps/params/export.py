"""What ``params.yaml`` says of the engines that are built."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from kd_steps.params.types import Count, Section


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
