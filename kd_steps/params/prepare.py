"""What ``params.yaml`` says of the source, of what is held out, and of the splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kd_steps.params.types import Count, CountOrZero, Section


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
