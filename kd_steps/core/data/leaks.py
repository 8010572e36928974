"""Pictures that stand in two splits: by content, by nearly the same content, by board.

A leak makes a test look better than the line will be: the network has seen the answer.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kd_steps.core.data.near_duplicates import near_pairs


def content_twins(digests: pd.Series, splits: pd.Series, paths: pd.Series) -> tuple[pd.Series, pd.Series]:
    """For each picture, one of equal content.

    Args:
        digests: sha256 of each picture.
        splits: its split.
        paths: its path, to name the twin.

    Returns:
        The path of a twin in another split, and of an earlier twin in the same split; None where there is none.
    """
    elsewhere = pd.Series(None, index=paths.index, dtype=object)
    repeated = elsewhere.copy()
    rows = pd.DataFrame({"digest": digests, "split": splits, "path": paths})
    for _, twins in rows[rows["digest"].duplicated(keep=False) & rows["digest"].notna()].groupby("digest"):
        first_of_split = twins.drop_duplicates("split").set_index("split")["path"]
        for index, split, path in twins[["split", "path"]].itertuples():
            others = first_of_split.drop(split)
            if len(others):
                elsewhere[index] = others.iloc[0]
            if first_of_split[split] != path:
                repeated[index] = first_of_split[split]
    return elsewhere, repeated


def near_twins(hashes: NDArray[np.uint64], splits: pd.Series, paths: pd.Series, max_bits: int) -> pd.Series:
    """For each picture, the path of a near-duplicate in another split; None where there is none.

    Args:
        hashes: perceptual hashes, (n,).
        splits: split of each picture.
        paths: path of each picture.
        max_bits: hashes this close are near-duplicates.
    """
    codes, names = pd.factorize(splits)
    distinct, inverse = np.unique(hashes, return_inverse=True)
    # member[h, s]: a picture with the distinct hash h in split s, or -1
    member = np.full((len(distinct), len(names)), -1, dtype=np.int64)
    member[inverse, codes] = np.arange(len(hashes))
    near = member.copy()
    for pairs in near_pairs(distinct, max_bits):
        np.maximum.at(near, pairs[:, 0], member[pairs[:, 1]])
        np.maximum.at(near, pairs[:, 1], member[pairs[:, 0]])
    of_picture = near[inverse]
    of_picture[np.arange(len(hashes)), codes] = -1
    twin = of_picture.max(axis=1) if len(names) else np.full(len(hashes), -1)
    named = [paths.iloc[index] if index >= 0 else None for index in twin]
    return pd.Series(named, index=paths.index, dtype=object)


def groups_elsewhere(groups: pd.Series, splits: pd.Series) -> pd.Series:
    """For each picture, the other splits that hold its board (such as ``train, val``); None where there is none."""
    splits_of_group = splits.groupby(groups).agg(lambda found: sorted(set(found)))
    others = [
        ", ".join(name for name in splits_of_group[group] if name != split) or None
        for group, split in zip(groups, splits, strict=True)
    ]
    return pd.Series(others, index=groups.index, dtype=object)
