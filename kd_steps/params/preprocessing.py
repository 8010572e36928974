"""How pictures reach a network, and how they are varied for training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from kd_steps.params.types import Fraction, Section


class Preprocessing(Section):
    """The part of the preprocessing contract (DESIGN §3) that a user may choose."""

    imgsz_px: Annotated[int, Field(ge=32, le=4096)]
    letterbox_fill: Annotated[int, Field(ge=0, le=255)]

    @field_validator("imgsz_px")
    @classmethod
    def _multiple_of_stride(cls, value: int) -> int:
        if value % 32:
            raise ValueError(f"must be a multiple of the largest stride, 32 px; nearest: {round(value / 32) * 32}")
        return value


class Augmentation(Section):
    """Ultralytics' augmentation gains, shared by the teacher, the cached views and the student."""

    mosaic: Fraction
    scale: Fraction
    translate: Fraction
    degrees: Annotated[float, Field(ge=0, le=180)]
    shear: Annotated[float, Field(ge=0, le=90)]
    perspective: Annotated[float, Field(ge=0, le=0.001)]
    fliplr: Fraction
    flipud: Fraction
    hsv_h: Fraction
    hsv_s: Fraction
    hsv_v: Fraction
