"""The class names of a data set, and how they differ from a teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def names_by_id(names: Any) -> list[str]:
    """The class names under ``names`` of a YOLO ``data.yaml``: a list, or a mapping of id to name.

    Raises:
        ValueError: they are something else; says what, and the mend.
    """
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise ValueError(f"names: the ids must be 0 to {len(names) - 1}, found {sorted(names, key=str)}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError("names: expected a list of class names, or a mapping of id to name")
    if odd := [name for name in names if not isinstance(name, str) or not name]:
        raise ValueError(
            f"names: YAML reads {odd} as numbers, truth values or nothing, not as names (0402 would be 258); put each "
            "name in quotes"
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names: {', '.join(repeated)} stands there more than once; one class, one number")
    return names


def class_difference(teacher: Sequence[str], data: Sequence[str]) -> str | None:
    """What keeps a teacher's class outputs from meaning the data set's classes, or None.

    Outputs have numbers, not names, so that the order counts.

    Args:
        teacher: class names in the order of the teacher's outputs.
        data: class names in the order of the data set's ids.
    """
    if list(teacher) == list(data):
        return None
    if not set(teacher) & set(data):
        return f"they have no class in common: the teacher knows {_listed(teacher)}, the data {_listed(data)}"
    missing, extra = [c for c in data if c not in teacher], [c for c in teacher if c not in data]
    told = [f"the teacher does not know {_listed(missing)}"] if missing else []
    told += [f"the data does not have {_listed(extra)}"] if extra else []
    if not told:
        number = next(n for n, (mine, theirs) in enumerate(zip(teacher, data, strict=True)) if mine != theirs)
        told.append(
            f"the same classes in another order: number {number} is '{teacher[number]}' of the teacher and "
            f"'{data[number]}' of the data"
        )
    return "; ".join(told)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
