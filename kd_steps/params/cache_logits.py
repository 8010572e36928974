"""What is kept of a teacher's answers, and who answers beside it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kd_steps.params.types import Count, CountOrZero, Positive, Section, Sha256


class MoreTeacher(Section):
    """A teacher beside the first one."""

    weights: str
    weights_sha256: Sha256
    weight: Positive
    classes: list[str]


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
    processes: CountOrZero
    shard_views: Count
    more_teachers: list[MoreTeacher]
