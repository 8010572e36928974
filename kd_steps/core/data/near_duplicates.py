"""Pictures that are nearly the same, found by their perceptual hashes without comparing all pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 64
PAIRS_AT_ONCE = 4_000_000


def near_pairs(hashes: NDArray[np.uint64], max_bits: int) -> Iterator[NDArray[np.int64]]:
    """Pairs of 64-bit hashes that differ in at most ``max_bits`` bits, as index arrays of shape (p, 2).

    Two hashes that differ in at most k bits agree wholly on at least one of k + 1 bands (the pigeonhole principle), so
    only hashes with an equal band are compared. A pair may come more than once. Pass distinct hashes: equal ones make
    quadratically many pairs.
    """
    edges = np.linspace(0, HASH_BITS, max_bits + 2).astype(int).tolist()
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order])) + 1
        for members in np.split(order, starts):
            if len(members) > 1:
                yield from _pairs_within(hashes, members, max_bits)


def _pairs_within(hashes: NDArray[np.uint64], members: NDArray[np.int64], max_bits: int) -> Iterator[NDArray[np.int64]]:
    """Compare all members of one bucket, a block of rows at a time so that memory stays flat."""
    rows = max(1, PAIRS_AT_ONCE // len(members))
    for first in range(0, len(members), rows):
        left, right = members[first : first + rows], members[first:]
        distance_bits = np.bitwise_count(hashes[left][:, None] ^ hashes[right][None, :])
        i, j = np.nonzero(np.triu(distance_bits <= max_bits, k=1))
        if len(i):
            yield np.stack([left[i], right[j]], axis=1)


def components(
    n: int, pair_batches: Iterable[NDArray[np.int64]], pairs_at_once: int = PAIRS_AT_ONCE
) -> NDArray[np.int64]:
    """Connected components of ``n`` nodes joined by pairs: the smallest member's index for each node, (n,).

    Args:
        n: nodes, 0 to n - 1.
        pair_batches: arrays of shape (p, 2).
        pairs_at_once: so many are joined in one go, so that memory stays flat however many come.
    """
    labels, waiting, count = np.arange(n, dtype=np.int64), [], 0
    for pairs in pair_batches:
        waiting.append(pairs)
        count += len(pairs)
        if count >= pairs_at_once:
            labels, waiting, count = _joined(labels, np.concatenate(waiting)), [], 0
    return _joined(labels, np.concatenate(waiting)) if waiting else labels


def _joined(labels: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of components, each its first node's index, after these pairs have joined some of them."""
    from scipy.sparse import coo_array  # too slow to import for all that only needs hashes compared
    from scipy.sparse.csgraph import connected_components

    n, ends = len(labels), labels[pairs]
    graph = coo_array((np.ones(len(pairs), dtype=np.bool_), (ends[:, 0], ends[:, 1])), shape=(n, n))
    _, parts = connected_components(graph, directed=False)
    _, first, part = np.unique(parts[labels], return_index=True, return_inverse=True)
    joined: NDArray[np.int64] = first[part].astype(np.int64)
    return joined


def same_side(groups: list[str], hashes: NDArray[np.uint64], max_bits: int) -> NDArray[np.int64]:
    """Which pictures must stay on one side: those of one group, and near-duplicates, taken together.

    Args:
        groups: the board of each picture, n names.
        hashes: perceptual hash of each picture, (n,).
        max_bits: hashes this close are near-duplicates.

    Returns:
        A component label a picture, (n,): the index of the component's first picture.
    """
    n = len(groups)
    distinct, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    first_of_group: dict[str, int] = {}
    of_group = [first_of_group.setdefault(group, i) for i, group in enumerate(groups)]
    nodes = np.arange(n, dtype=np.int64)
    equal = np.stack([nodes, first[inverse].astype(np.int64)], axis=1)
    grouped = np.stack([nodes, np.array(of_group, dtype=np.int64).reshape(n)], axis=1)
    near = (first[pairs].astype(np.int64) for pairs in near_pairs(distinct, max_bits))
    return components(n, (batch for batches in ((equal, grouped), near) for batch in batches))


def near_any(hashes: NDArray[np.uint64], others: NDArray[np.uint64], max_bits: int) -> NDArray[np.bool_]:
    """Whether each hash (n,) has a near-duplicate among ``others`` (m,); bool of shape (n,)."""
    distinct, inverse = np.unique(np.concatenate([hashes, others]), return_inverse=True)
    is_other = np.zeros(len(distinct), dtype=bool)
    is_other[inverse[len(hashes) :]] = True
    near = is_other.copy()
    for pairs in near_pairs(distinct, max_bits):
        for a, b in ((0, 1), (1, 0)):
            near[pairs[is_other[pairs[:, b]], a]] = True
    return near[inverse[: len(hashes)]]
