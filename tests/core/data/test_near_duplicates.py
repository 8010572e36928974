import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.core.data.near_duplicates import PAIRS_AT_ONCE, components, near_any, near_pairs, same_side


@st.composite
def clustered(draw: st.DrawFn, max_size: int = 30) -> np.ndarray:
    """Hashes around a few centres, so that pairs at all small distances occur."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    n = draw(st.integers(1, max_size))
    hashes = []
    for _ in range(n):
        value = draw(st.sampled_from(centres))
        for bit in draw(st.lists(st.integers(0, 63), max_size=6)):
            value ^= 1 << bit
        hashes.append(value)
    return np.array(hashes, dtype=np.uint64)


def distance_bits(a: int, b: int) -> int:
    return bin(int(a) ^ int(b)).count("1")


@settings(deadline=None)
@given(clustered(), st.integers(0, 10))
def test_pairs_are_those_of_brute_force(hashes: np.ndarray, max_bits: int) -> None:
    hashes = np.unique(hashes)
    found = {tuple(sorted(pair)) for batch in near_pairs(hashes, max_bits) for pair in batch.tolist()}
    wanted = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if distance_bits(hashes[i], hashes[j]) <= max_bits
    }
    assert found == wanted


@settings(deadline=None)
@given(st.integers(1, 25), st.data())
def test_components_are_those_of_brute_force(n: int, data: st.DataObject) -> None:
    node = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(node, node), max_size=40))
    labels = list(range(n))
    for _ in range(n):  # spread the smallest label until nothing changes
        for a, b in pairs:
            labels[a] = labels[b] = min(labels[a], labels[b])
    batches = np.split(np.array(pairs, dtype=np.int64).reshape(-1, 2), sorted(data.draw(st.lists(st.integers(0, 40)))))
    assert components(n, batches).tolist() == labels
    assert components(n, batches, pairs_at_once=data.draw(st.integers(1, 40))).tolist() == labels


@settings(deadline=None)
@given(clustered(), st.integers(0, 6), st.data())
def test_groups_and_near_duplicates_stay_together(hashes: np.ndarray, max_bits: int, data: st.DataObject) -> None:
    groups = [data.draw(st.sampled_from("abcdef")) for _ in hashes]
    labels = same_side(groups, hashes, max_bits)
    for i in range(len(hashes)):
        for j in range(i):
            if groups[i] == groups[j] or distance_bits(hashes[i], hashes[j]) <= max_bits:
                assert labels[i] == labels[j]


@settings(deadline=None)
@given(clustered(), clustered(), st.integers(0, 6))
def test_near_any_is_brute_force(hashes: np.ndarray, others: np.ndarray, max_bits: int) -> None:
    wanted = [any(distance_bits(a, b) <= max_bits for b in others) for a in hashes]
    assert near_any(hashes, others, max_bits).tolist() == wanted


def test_a_hundred_thousand_hashes_need_no_quadratic_time() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 100_000, dtype=np.uint64)
    hashes[1::2] = hashes[::2] ^ np.uint64(0b1011)
    labels = same_side([str(i) for i in range(len(hashes))], hashes, 4)
    assert (labels[1::2] == labels[::2]).all()
    assert len(np.unique(labels)) == 50_000


def test_a_bucket_too_large_for_one_block_loses_no_pair() -> None:
    hashes = np.arange(2500, dtype=np.uint64)  # alike in all bands but the first
    assert len(hashes) ** 2 > PAIRS_AT_ONCE
    found = {tuple(sorted(pair)) for batch in near_pairs(hashes, 1) for pair in batch.tolist()}
    near = np.triu(np.bitwise_count(hashes[:, None] ^ hashes[None]) <= 1, k=1)
    assert found == set(zip(*(side.tolist() for side in np.nonzero(near)), strict=True))
