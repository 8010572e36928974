"""How the classes of a teacher and of a data set differ."""

from __future__ import annotations

from collections.abc import Sequence


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
