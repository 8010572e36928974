"""Which classes a detector learns from new-part sets, and what their label numbers mean to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def classes_with_new_parts(
    base: Sequence[str], held_out: Sequence[str], sets: Iterable[Sequence[str]]
) -> tuple[str, ...]:
    """All classes after few-shot training.

    Args:
        base: classes of the base detector; they keep their numbers.
        held_out: classes that the source held out; the test split's labels count on their place behind the base ones.
        sets: class names of each new-part set.

    Returns:
        Base classes, held-out ones that some set teaches, then the other new names in alphabetical order.
    """
    named = {name for names in sets for name in names}
    taught = [name for name in held_out if name in named]
    return (*base, *taught, *sorted(named - set(base) - set(held_out)))
