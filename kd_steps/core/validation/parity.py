"""Preprocessing parity: which pictures probe it, and how two network inputs differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class InputDifference:
    """How a path's network input differs from the edge runtime's.

    Attributes:
        largest: largest absolute difference of a value, 0-1 scale.
        share: share of the values that differ, 0-1.
        place: where the largest difference lies, in words; empty where there is none.
    """

    largest: float
    share: float
    place: str


def choose_probes(images: pd.DataFrame, n: int) -> pd.DataFrame:
    """The pictures most likely to tell two preprocessing paths apart.

    First one picture of each size (rounding depends on it; the least square ones first), then the brightest, darkest,
    most and least contrasted; the rest is spread evenly over the table.

    Args:
        images: one row a readable picture: ``path``, ``width_px``, ``height_px``, ``brightness``, ``contrast``.
        n: pictures wanted; all of them if there are fewer.
    """
    ordered = images.sort_values("path", kind="stable")
    sides = ordered[["width_px", "height_px"]].astype(float)
    by_size = ordered.assign(aspect=sides.max(axis=1) / sides.min(axis=1)).drop_duplicates(["width_px", "height_px"])
    sizes = by_size.sort_values("aspect", ascending=False, kind="stable").index[: max(1, n // 2)].tolist()
    extremes = [
        ordered[column].sort_values(ascending=ascending, kind="stable").index[0]
        for column in ("brightness", "contrast")
        for ascending in (False, True)
        if len(ordered)
    ]
    spread = ordered.index[np.linspace(0, len(ordered) - 1, min(n, len(ordered))).astype(int)].tolist()
    chosen = list(dict.fromkeys([*sizes, *extremes, *spread, *ordered.index]))[:n]
    return images.loc[chosen]


def input_difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> InputDifference | None:
    """Compare two network inputs of shape (1, channels, height, width); None where their shapes or types differ."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return None
    apart = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    if not apart.any():
        return InputDifference(0.0, 0.0, "")
    _, channel, row, column = np.unravel_index(int(apart.argmax()), apart.shape)
    place = f"channel {channel}, row {row}, column {column}"
    return InputDifference(float(apart.max()), float((apart > 0).mean()), place)


def parity_row(
    path_name: str,
    file: str,
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    named: tuple[str, NDArray[np.float32]] | None,
    contract_differences: list[str],
) -> dict[str, object]:
    """One row of the parity table.

    Args:
        path_name: the preprocessing path that gave ``found``.
        file: the probe picture.
        expected: network input of the edge runtime, (1, 3, side, side).
        found: network input of the path.
        named: a known cause, and the edge runtime's network input with that cause applied; the cause is believed only
            as far as it gives the same values.
        contract_differences: how the path's own settings differ from the contract.

    Returns:
        ``largest_difference`` against the edge runtime, and ``unexplained_difference``: what the named cause leaves.
    """
    difference = input_difference(expected, found)
    if difference is None:
        left, cause = None, f"another tensor: {found.dtype} {found.shape} against {expected.dtype} {expected.shape}"
    elif not difference.largest or named is None:
        left, cause = difference.largest, ""
    else:
        remaining = input_difference(named[1], found)
        explained = remaining is not None and remaining.largest < difference.largest
        left, cause = (remaining.largest, named[0]) if explained and remaining else (difference.largest, "")
    return {
        "path_name": path_name,
        "file": file,
        "largest_difference": difference.largest if difference else None,
        "unexplained_difference": left,
        "differing_share": difference.share if difference else None,
        "place": difference.place if difference else "",
        "cause": cause,
        "contract_difference": "; ".join(contract_differences) or None,
    }
