"""Leaks between splits, against the obvious comparison of all pairs."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.core.data.leaks import content_twins, groups_elsewhere, near_twins

SPLITS = st.sampled_from(["train", "val", "test"])


def paths(n):
    return pd.Series([f"p{i}" for i in range(n)])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), SPLITS), max_size=12))
def test_content_twins_agree_with_all_pairs(rows):
    digests = pd.Series([digest for digest, _ in rows], dtype=object)
    splits = pd.Series([split for _, split in rows], dtype=object)
    elsewhere, repeated = content_twins(digests, splits, paths(len(rows)))
    for i, (digest, split) in enumerate(rows):
        assert pd.notna(elsewhere[i]) == any(d == digest and s != split for d, s in rows)
        assert pd.notna(repeated[i]) == any(row == (digest, split) for row in rows[:i])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 63), SPLITS), min_size=1, max_size=12), st.integers(0, 3))
def test_near_twins_agree_with_all_pairs(rows, bits):
    hashes = np.array([base * 0x0101010101010101 ^ (1 << flip) for base, flip, _ in rows], dtype=np.uint64)
    splits = pd.Series([split for *_, split in rows])
    found = near_twins(hashes, splits, paths(len(rows)), bits)
    for i in range(len(rows)):
        near = [
            f"p{j}"
            for j in range(len(rows))
            if splits[j] != splits[i] and int(hashes[i] ^ hashes[j]).bit_count() <= bits
        ]
        assert (found[i] in near) if near else found[i] is None


def test_groups_are_told_with_the_other_splits():
    groups, splits = pd.Series(["a", "a", "b", "a"]), pd.Series(["train", "test", "test", "val"])
    assert groups_elsewhere(groups, splits).tolist() == ["test, val", "train, val", None, "test, train"]


def test_nothing_in_nothing_out():
    empty = pd.Series([], dtype=object)
    assert len(groups_elsewhere(empty, empty)) == 0
    assert len(near_twins(np.zeros(0, np.uint64), empty, empty, 4)) == 0
    assert len(content_twins(empty, empty, empty)[0]) == 0
