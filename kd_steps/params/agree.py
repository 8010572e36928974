"""What sections of ``params.yaml`` must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kd_steps.params.door import Params


def require_agreement(params: Params) -> None:
    """Refuse values that are right one by one and contradict each other.

    Raises:
        ValueError: names both keys, and what to set.
    """
    _thresholds(params)
    _targets(params)
    _teacher(params)
    _cache_content(params)
    _strength(params)


def _thresholds(params: Params) -> None:
    knobs = params.evaluate
    if knobs.operating_confidence < knobs.confidence:
        raise ValueError(
            f"evaluate.operating_confidence is {knobs.operating_confidence:g}, below evaluate.confidence "
            f"({knobs.confidence:g}), under which nothing is kept: false alarms would be missed"
        )


def _targets(params: Params) -> None:
    if missing := [target for target in params.gate.required_targets if target not in params.export.targets]:
        raise ValueError(f"gate.required_targets names {missing}, which export.targets does not build")


def _cache_content(params: Params) -> None:
    """A term compares what the cache holds."""
    terms, cache = params.distill.terms, params.cache_logits
    needs = {
        "attention_weight": ("attention: true", cache.attention),
        "channel_weight": ("pooled: true", cache.pooled),
        "relational_weight": ("pooled: true", cache.pooled),
        "feature_weight": ("max_vectors above 0", cache.max_vectors > 0),
    }
    for weight, (content, there) in needs.items():
        if getattr(terms, weight) > 0 and not there:
            raise ValueError(
                f"distill.terms.{weight} needs cache_logits.{content}: the cache does not hold it otherwise"
            )


def _teacher(params: Params) -> None:
    distill, last = params.distill, params.assistant.last
    if distill.teacher != last:
        raise ValueError(
            f"distill.teacher is '{distill.teacher}', but assistant.chain ends in '{last}'; set it to that"
        )
    if distill.answers == "ema" and (params.assistant.chain or params.cache_logits.more_teachers):
        raise ValueError(
            "distill.answers: ema asks no teacher: empty assistant.chain and cache_logits.more_teachers, or set "
            "distill.answers: cached"
        )
    if distill.teacher_choice.on_weak_teacher == "refuse" and not params.plain_student.seeds:
        raise ValueError(
            "distill.teacher_choice.on_weak_teacher: refuse needs the score of the student alone; give "
            "plain_student.seeds one, such as [0]"
        )


def _strength(params: Params) -> None:
    terms = params.distill.terms
    acts_on = terms.box_weight > 0 or (terms.feature_weight > 0 and terms.feature_kind == "l2")
    if terms.dynamic_strength > 0 and not acts_on:
        raise ValueError(
            "distill.terms.dynamic_strength acts on the box term and on feature_kind l2: give one a weight"
        )
