"""The one door of ``params.yaml``: typed, range-checked, unknown keys refused.

Every stage reads its knobs through :func:`load_params`; nothing else in Retort parses ``params.yaml``.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from kd_steps.params.data import Augmentation, Prepare, Preprocessing, Validate
from kd_steps.params.engines import Evaluate, Export, Gate, Register, Report
from kd_steps.params.training import (
    Assistant,
    CacheLogits,
    Compute,
    Distill,
    FewShot,
    PlainStudent,
    TrainTeacher,
)
from kd_steps.params.types import CountOrZero, ProductName, Section

PARAMS_FILE = Path("params.yaml")
# Keys of earlier releases and what they are called now.
RENAMED = {
    "register.model_prefix": "product",
}


class ParamsError(ValueError):
    """``params.yaml`` cannot be used; the message names the file, each key path and the mend."""


class Params(Section):
    """All of ``params.yaml``. A stage's section has the stage's name."""

    product: ProductName
    seed: CountOrZero
    preprocessing: Preprocessing
    augmentation: Augmentation
    compute: Compute
    prepare: Prepare
    validate_: Validate = Field(alias="validate")
    train_teacher: TrainTeacher
    assistant: Assistant
    plain_student: PlainStudent
    cache_logits: CacheLogits
    distill: Distill
    few_shot: FewShot
    export: Export
    evaluate: Evaluate
    gate: Gate
    report: Report
    register_: Register = Field(alias="register")

    @model_validator(mode="after")
    def _sections_agree(self) -> Params:
        knobs = self.evaluate
        if knobs.operating_confidence < knobs.confidence:
            raise ValueError(
                f"evaluate.operating_confidence is {knobs.operating_confidence:g}, below evaluate.confidence "
                f"({knobs.confidence:g}), under which nothing is kept: false alarms would be missed"
            )
        missing = [t for t in self.gate.required_targets if t not in self.export.targets]
        if missing:
            raise ValueError(f"gate.required_targets names {missing}, which export.targets does not build")
        distill, cache = self.distill, self.cache_logits
        needs = {
            "attention_weight": ("attention: true", cache.attention),
            "channel_weight": ("pooled: true", cache.pooled),
            "relational_weight": ("pooled: true", cache.pooled),
            "feature_weight": ("max_vectors above 0", cache.max_vectors > 0),
        }
        for weight, (content, there) in needs.items():
            if getattr(distill, weight) > 0 and not there:
                raise ValueError(f"distill.{weight} needs cache_logits.{content}: the cache does not hold it otherwise")
        return self

    @model_validator(mode="after")
    def _teachers_agree(self) -> Params:
        distill, last = self.distill, self.assistant.last
        if distill.teacher != last:
            raise ValueError(
                f"distill.teacher is '{distill.teacher}', but assistant.chain ends in '{last}'; set it to that"
            )
        if distill.answers == "ema" and (self.assistant.chain or self.cache_logits.more_teachers):
            raise ValueError(
                "distill.answers: ema asks no teacher: empty assistant.chain and cache_logits.more_teachers, or set "
                "distill.answers: cached"
            )
        if distill.teacher_choice.on_weak_teacher == "refuse" and not self.plain_student.seeds:
            raise ValueError(
                "distill.teacher_choice.on_weak_teacher: refuse needs the score of the student alone; give "
                "plain_student.seeds one, such as [0]"
            )
        acts_on = distill.box_weight > 0 or (distill.feature_weight > 0 and distill.feature_kind == "l2")
        if distill.dynamic_strength > 0 and not acts_on:
            raise ValueError("distill.dynamic_strength acts on the box term and on feature_kind l2: give one a weight")
        return self


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check a ``params.yaml``.

    Raises:
        ParamsError: the file is missing, is not YAML, or has unknown, missing or out-of-range keys. Every fault is
            named with its key path, an unknown key with the nearest known one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: no such file; run from the project's root, or restore it from git") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ParamsError(f"{path}: expected a mapping of sections, found {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [f"{path}: {_describe(dict(fault))}" for fault in error.errors() if not _beside_the_point(dict(fault))]
        raise ParamsError("\n".join(dict.fromkeys(lines))) from error


def _beside_the_point(fault: dict[str, Any]) -> bool:
    """Whether a fault only says that a mapping is not a name, where both may stand; the mapping's own fault follows."""
    return fault["loc"][-1:] == ("str",) and isinstance(fault["input"], dict)


def _describe(fault: dict[str, Any]) -> str:
    """One line for one pydantic fault: key path, what is wrong, the mend."""
    path = [str(part) for part in fault["loc"] if part not in ("str", "ScaledModel")]
    key = ".".join(path) or "(top level)"
    if fault["type"] == "extra_forbidden" and key in RENAMED:
        return f"{key}: now `{RENAMED[key]}`; move its value there"
    if fault["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        mend = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        return f"{key}: unknown key; {mend}"
    if fault["type"] == "missing":
        return f"{key}: missing; add it (its unit and a sensible value stand in the params.yaml of the repository)"
    if fault["type"] == "value_error":
        return f"{key}: {str(fault['msg']).removeprefix('Value error, ')}"
    return f"{key}: {fault['msg']}, got {fault['input']!r}"


def _known_keys(path: list[str]) -> list[str]:
    """The keys that ``params.yaml`` may have below ``path``."""
    model: type[BaseModel] = Params
    names = iter(path)
    for part in names:
        field = next((f for name, f in model.model_fields.items() if part in (name, f.alias)), None)
        if field is None:
            return []
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        if getattr(field.annotation, "__origin__", None) in (list, dict):
            next(names, None)  # an item's own name or number
        sections = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not sections:
            return []
        model = sections[0]
    return [field.alias or name for name, field in model.model_fields.items()]
