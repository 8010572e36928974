"""The one door of ``params.yaml``: typed, range-checked, unknown keys refused.

Every stage reads its knobs through :func:`load_params`; nothing else in Retort parses ``params.yaml``.
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from kd_steps.params.agree import require_agreement
from kd_steps.params.assistant import Assistant
from kd_steps.params.cache_logits import CacheLogits
from kd_steps.params.compute import Compute
from kd_steps.params.distill import Distill
from kd_steps.params.evaluate import Evaluate
from kd_steps.params.export import Export
from kd_steps.params.few_shot import FewShot
from kd_steps.params.gate import Gate
from kd_steps.params.plain_student import PlainStudent
from kd_steps.params.prepare import Prepare
from kd_steps.params.preprocessing import Augmentation, Preprocessing
from kd_steps.params.register import Register
from kd_steps.params.report import Report
from kd_steps.params.train_teacher import TrainTeacher
from kd_steps.params.types import GROUPS, CountOrZero, ProductName, Section
from kd_steps.params.validate import Validate

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
        require_agreement(self)
        return self


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check a ``params.yaml``.

    Raises:
        ParamsError: the file is missing, is not YAML, or has unknown, missing or out-of-range keys. Every fault is
            named with its key path, an unknown key with the nearest known one.
    """
    raw = _read(path)
    if not isinstance(raw, dict):
        raise ParamsError(f"{path}: expected a mapping of sections, found {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [f"{path}: {_describe(dict(fault))}" for fault in error.errors() if not _beside_the_point(dict(fault))]
        raise ParamsError("\n".join(dict.fromkeys(lines))) from error


def _read(path: Path) -> Any:
    """What the file says, unchecked.

    Raises:
        ParamsError: it is missing, no text, or no YAML; names the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return yaml.load(text, _OnceLoader)
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: no such file; run from the project's root, or restore it from git") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ParamsError(f"{path}, line {line}: not text in UTF-8 ({error.reason}); save the file as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ParamsError(f"{path}{place}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


class _OnceLoader(yaml.SafeLoader):
    """YAML whose keys stand once: PyYAML would take the last of several, and DVC refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                told = f"the key '{key.value}' stands here a second time; keep one of them"
                raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _beside_the_point(fault: dict[str, Any]) -> bool:
    """Whether a fault only says that a mapping is not a name, where both may stand; the mapping's own fault follows."""
    return fault["loc"][-1:] == ("str",) and isinstance(fault["input"], dict)


def _describe(fault: dict[str, Any]) -> str:
    """One line for one pydantic fault: key path, what is wrong, the mend."""
    path = [str(part) for part in fault["loc"] if part not in ("str", "ScaledModel")]
    key = ".".join(path) or "(top level)"
    if fault["type"] == "extra_forbidden" and key in RENAMED:
        return f"{key}: now `{RENAMED[key]}`; move its value there"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        if moved := _moved_to(path):
            return f"{key}: stands in a group now; write {moved}"
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        mend = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        return f"{key}: unknown key; {mend}"
    if fault["type"] == "missing":
        return f"{key}: missing; add it (its unit and a sensible value stand in the params.yaml of the repository)"
    if fault["type"] == "value_error":
        return f"{key}: {str(fault['msg']).removeprefix('Value error, ')}"
    return f"{key}: {fault['msg']}, got {fault['input']!r}"


def _moved_to(path: list[str]) -> str | None:
    """Where a key of an older ``params.yaml`` stands now: in a group of its section."""
    section, name = path[:-1], path[-1]
    return next((".".join([*section, group, name]) for group in GROUPS if name in _known_keys([*section, group])), None)


def _known_keys(path: list[str]) -> list[str]:
    """The keys that ``params.yaml`` may have below ``path``."""
    model: type[Any] = Params
    names = iter(path)
    for part in names:
        found = (field for name, field in _fields_of(model).items() if part in (name, field.alias))
        if (field := next(found, None)) is None:
            return []
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        if getattr(field.annotation, "__origin__", None) in (list, dict):
            next(names, None)  # an item's own name or number
        sections = [option for option in options if _fields_of(option)]
        if not sections:
            return []
        model = sections[0]
    return [field.alias or name for name, field in _fields_of(model).items()]


def _fields_of(section: Any) -> dict[str, Any]:
    """Name → field of a section, which may be a data class of core."""
    if isinstance(section, type) and issubclass(section, BaseModel):
        return dict(section.model_fields)
    if isinstance(section, type) and dataclasses.is_dataclass(section):
        return {field.name: FieldInfo(annotation=cast(Any, field.type)) for field in dataclasses.fields(section)}
    return {}
