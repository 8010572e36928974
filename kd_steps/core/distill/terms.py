"""The terms of the distillation loss: how much each counts and which formula it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Len

TermName = Literal["class", "box", "attention", "channel", "feature", "relational"]
NonNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]


@dataclass(frozen=True, kw_only=True)
class TermWeights:
    """Multipliers of the terms and what shapes them; a term of weight 0 is left out. A section of ``params.yaml``.

    Attributes:
        class_weight: of the class term.
        box_weight: of the box term.
        box_kind: formula of the box term; heads with other bins than the teacher's are always ``decoded``.
        box_temperature: softens the bins.
        attention_weight: of the spatial attention term.
        channel_weight: of the channel attention term.
        feature_weight: of the feature term.
        feature_kind: its formula.
        feature_temperature: of ``cwd``.
        feature_levels: share of each level in the feature term.
        relational_weight: of the relational term.
        dynamic_strength: what a student's score that is off by 1 adds to an anchor's weight in the box and the ``l2``
            feature term, as a multiple of it.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012 - how params.yaml is held to it

    class_weight: NonNegative = 0.0
    box_weight: NonNegative = 0.0
    box_kind: Literal["bins", "decoded"] = "bins"
    box_temperature: Positive = 1.0
    attention_weight: NonNegative = 0.0
    channel_weight: NonNegative = 0.0
    feature_weight: NonNegative = 0.0
    feature_kind: Literal["l2", "cwd", "pkd"] = "l2"
    feature_temperature: Positive = 1.0
    feature_levels: Annotated[tuple[NonNegative, ...], Len(min_length=1)] = (0.4, 0.3, 0.3)
    relational_weight: NonNegative = 0.0
    dynamic_strength: NonNegative = 0.0

    def names(self) -> tuple[str, ...]:
        """Names of the terms that have a weight, in the order of :func:`distillation_terms`."""
        return tuple(name for name, weight in self.by_name().items() if weight > 0)

    def by_name(self) -> dict[str, float]:
        """Every term's name and its multiplier."""
        return {
            "kd_class": self.class_weight,
            "kd_box": self.box_weight,
            "kd_attention": self.attention_weight,
            "kd_channel": self.channel_weight,
            "kd_feature": self.feature_weight,
            "kd_relational": self.relational_weight,
        }
