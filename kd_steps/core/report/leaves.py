"""Nested values as flat names: what a tracking store, a table or a diff can hold."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# What every store we know accepts in a name; Ultralytics writes "metrics/mAP50-95(B)", which most refuse.
_REFUSED = re.compile(r"[^0-9A-Za-z_\-./ ]+")


def numeric_leaves(values: Any, limit: int = 250) -> dict[str, float]:
    """Every finite number in nested values, under the path that leads to it.

    Items of a list are named by their own ``name`` and ``target`` where they have them, else by position. Truth
    values count as 1 and 0; text, nulls and non-finite numbers are left out.

    Args:
        values: JSON values.
        limit: most characters of a name.

    Returns:
        Name → number, in the order of the values. Two paths never share a name.
    """
    found: dict[str, float] = {}
    for path, leaf in _walk(values, ()):
        if isinstance(leaf, (bool, int, float)) and math.isfinite(leaf):
            found[_free_name(safe_name("/".join(path) or "value", limit), found, limit)] = float(leaf)
    return found


def text_leaves(values: Any, name_limit: int = 250, text_limit: int = 6000) -> dict[str, str]:
    """Every leaf of nested values as text, under its dotted path; lists stay whole, as JSON.

    Args:
        values: JSON values, such as a section of ``params.yaml``.
        name_limit: most characters of a name.
        text_limit: most characters of a text; a longer one is cut and ends with its digest, so that two differ.

    Returns:
        Name → text, in the order of the values. Two paths never share a name.
    """
    found: dict[str, str] = {}
    for path, leaf in _walk(values, (), open_lists=False):
        text = leaf if isinstance(leaf, str) else json.dumps(leaf, sort_keys=True, default=str)
        found[_free_name(safe_name(".".join(path) or "value", name_limit), found, name_limit)] = _cut(text, text_limit)
    return found


def safe_name(name: str, limit: int = 250) -> str:
    """A name of letters, digits and ``_ - . /`` and inner spaces, at most ``limit`` characters, never empty.

    A part that lost letters of another script, and a name that had to be cut, end with a piece of their digest, so that
    two of them stay two, and the same two in every run. Empty, ``.`` and
    ``..`` parts of a path are replaced too: a store that keeps names as files would leave its folder through them.
    """
    parts = [_plain(part) for part in name.split("/")]
    return _cut("/".join("_" if part in ("", ".", "..") else part for part in parts), limit)


def _plain(part: str) -> str:
    plain = _REFUSED.sub("_", part).strip(" _")
    lost = any(not sign.isascii() for sign in part)
    return "-".join(piece for piece in (plain, _digest(part) if lost else "") if piece)


def _walk(values: Any, path: tuple[str, ...], open_lists: bool = True) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _walk(value, (*path, str(key)), open_lists)
    elif open_lists and isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        for position, value in enumerate(values):
            yield from _walk(value, (*path, *_item_name(value, position)), open_lists)
    else:
        yield path, values


def _item_name(item: Any, position: int) -> tuple[str, ...]:
    if isinstance(item, Mapping) and isinstance(item.get("name"), str):
        target = item.get("target")
        return (item["name"], target) if isinstance(target, str) else (item["name"],)
    return (str(position),)


def _free_name(name: str, taken: Mapping[str, object], limit: int) -> str:
    """``name``, or with a number where another leaf already has it."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name[: limit - len(str(number)) - 1]}_{number}"
    return candidate


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit - 9]}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
