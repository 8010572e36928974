"""What is kept of a teacher's answers, and who answers beside it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kd_steps.params.types import Count, CountOrZero, Positive, Section, Sha256


class MoreTeacher(Section):
    """A teacher beside the first one."""

    weights: str
    weights_sha256: Sha256
    weight: Positive
    classes: list[str]


class AnswerContent(Section):
    """What a teacher is asked of a view.

    Attributes:
        score_threshold: least top class score of a kept anchor.
        max_anchors: most anchors kept a view.
        attention: whether attention maps are asked for.
        pooled: whether pooled channels are asked for.
        max_vectors: most neck vectors a view.
    """

    score_threshold: Annotated[float, Field(ge=0, lt=1)]
    max_anchors: Annotated[int, Field(ge=1, le=65535)]
    attention: bool
    pooled: bool
    max_vectors: CountOrZero

    def asked(self) -> dict[str, Any]:
        """These values by name, without those that a wider section has beside them."""
        return {name: getattr(self, name) for name in AnswerContent.model_fields}


class CacheLogits(AnswerContent):
    views: CountOrZero
    closing_views: CountOrZero
    pixels: bool
    batch: Count
    processes: CountOrZero
    shard_views: Count
    more_teachers: list[MoreTeacher]
