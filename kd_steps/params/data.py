"""What ``params.yaml`` says of pictures, as they come and as they are seen; :mod:`kd_steps.params` is the one door."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from kd_steps.params.types import Count, CountOrZero, Fraction, Section


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


class SyntheticSource(Section):
    train_boards: Count
    test_boards: Count
    defect_free_boards: Count
    image_size_px: Annotated[int, Field(ge=64, le=4096)]


class DeepPcbSource(Section):
    path: Path | None
    split_by: Literal["authors", "group"]


class YoloSource(Section):
    path: Path | None


class VocSource(Section):
    images: Path | None
    annotations: Path | None


class CocoSource(Section):
    images: Path | None
    annotations: Path | None


class Source(Section):
    kind: Literal["synthetic", "deeppcb", "yolo", "voc", "coco"]
    synthetic: SyntheticSource
    deeppcb: DeepPcbSource
    yolo: YoloSource
    voc: VocSource
    coco: CocoSource


class NewParts(Section):
    classes: list[str]
    shots: Count


class Unlabelled(Section):
    path: Path | None


class Splits(Section):
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    test_fraction: Annotated[float, Field(gt=0, lt=1)]
    near_duplicate_bits: CountOrZero
    group_pattern: str | None


class Prepare(Section):
    source: Source
    new_parts: NewParts
    unlabelled: Unlabelled
    splits: Splits


class Validate(Section):
    parity_probes: Count
    parity_tolerance: Annotated[float, Field(ge=0, lt=1)]
