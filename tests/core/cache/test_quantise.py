"""Box bins and neck vectors as bytes: what a decoded side and a channel lose, and what they take."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kd_steps.core.cache.quantise import (
    GROWTH,
    LEAST_RELATIVE_LOGIT,
    pack_bins,
    pack_vectors,
    packed_size,
    unpack_bins,
    unpack_vectors,
)

COARSEST_STRIDE_PX = 32
VECTORS = st.tuples(st.integers(0, 12), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-1e4, 1e4, width=32))
)


def expectation(bins):
    """Decoded sides in strides, float64."""
    powers = np.exp(bins.astype(np.float64) - bins.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)) @ np.arange(bins.shape[-1])


def moved_px(bins):
    """How far packing moves each decoded side, at the coarsest level."""
    return np.abs(expectation(there_and_back(bins)) - expectation(bins)) * COARSEST_STRIDE_PX


def trained_like(seed, anchors, bins, spread, peak):
    """Logits with noise all over and, as training leaves them, two neighbouring bins above the others."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((anchors, 4, bins)) * spread / 3
    place = random.integers(0, bins - 1, (anchors, 4, 1))
    np.put_along_axis(logits, place, peak + random.random((anchors, 4, 1)), axis=-1)
    np.put_along_axis(logits, place + 1, peak + random.random((anchors, 4, 1)), axis=-1)
    return np.clip(logits + random.uniform(-20, 20), -20, 20).astype(np.float32)


def there_and_back(bins):
    return unpack_bins(pack_bins(bins), len(bins), bins.shape[-1])


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    anchors=st.integers(0, 40),
    bins=st.sampled_from([8, 16, 32]),
    spread=st.floats(0, 20),
    peak=st.floats(0, 20),
)
def test_a_decoded_side_moves_by_less_than_a_twentieth_of_a_pixel(seed, anchors, bins, spread, peak):
    put = trained_like(seed, anchors, bins, spread, peak)
    got = there_and_back(put)
    assert got.shape == put.shape
    assert got.dtype == np.float32
    assert moved_px(put).max(initial=0) <= 0.05


LOGITS = st.one_of(st.floats(-20, 20, width=32), st.sampled_from([0.0, -2.001, -13.9999, -14.0001, 20.0]))


@settings(deadline=None, max_examples=150)
@example(sides=[[-2.001] * 3 + [-20.0] * 12 + [0.0]] * 4)  # where half precision would move a side by a tenth
@given(sides=st.lists(st.lists(LOGITS, min_size=16, max_size=16), min_size=4, max_size=4))
def test_no_distribution_at_all_moves_further(sides):
    assert moved_px(np.array([sides], np.float32)).max() <= 0.05


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), level=st.floats(-20, 20), wobble=st.floats(0, 1))
def test_flat_sides_survive(seed, level, wobble):
    put = level + wobble * np.random.default_rng(seed).standard_normal((12, 4, 16))
    assert moved_px(put.astype(np.float32)).max() <= 0.05


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0, 20), peak=st.floats(0, 20))
def test_distributions_stay_what_they_were(seed, spread, peak):
    """Their divergence from what was put in, in nats, and each logit to a few of its steps."""
    put = trained_like(seed, 20, 16, spread, peak)
    got = there_and_back(put)
    old, new = (np.exp(bins.astype(np.float64) - bins.max(axis=-1, keepdims=True)) for bins in (put, got))
    old, new = old / old.sum(axis=-1, keepdims=True), new / new.sum(axis=-1, keepdims=True)
    assert (old * np.log(old / new)).sum(axis=-1).max() < 5e-4
    relative = put - put.max(axis=-1, keepdims=True)
    off = np.sort(np.abs(got - np.maximum(relative, LEAST_RELATIVE_LOGIT)), axis=-1)
    steps = 0.02 * np.exp(-np.maximum(relative, LEAST_RELATIVE_LOGIT) / GROWTH)
    assert (off[..., :-1] <= np.sort(steps, axis=-1)[..., :-1]).all(), "all but the one that was shifted"


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), bins=st.sampled_from([8, 16, 32]), peak=st.floats(0, 20))
def test_a_byte_a_bin_and_two_a_side(seed, bins, peak):
    assert len(pack_bins(trained_like(seed, 7, bins, 4.0, peak))) == 7 * 4 * (bins + 2)


def test_rounding_alone_would_move_sides_too_far():
    """So that the stored error is worth its bytes."""
    put = trained_like(6, 200, 16, 4.0, 3.0)
    packed = bytearray(pack_bins(put))
    packed[put.size :] = bytes(len(packed) - put.size)
    without = np.abs(expectation(unpack_bins(packed, 200, 16)) - expectation(put)) * COARSEST_STRIDE_PX
    assert without.max() > 0.05
    assert moved_px(put).max() < 0.01


def test_a_side_on_one_bin_alone_stays_there():
    put = np.full((3, 4, 16), -60.0, np.float32)
    put[..., 5] = 20.0
    assert there_and_back(put).argmax(axis=-1).tolist() == [[5] * 4] * 3
    assert moved_px(put).max() < 0.01


def test_an_offset_of_a_side_is_not_stored():
    put = trained_like(1, 9, 16, 4.0, 6.0)
    moved = put + 8 * np.round(np.random.default_rng(2).standard_normal((9, 4, 1))).astype(np.float32)
    assert np.abs(there_and_back(moved) - there_and_back(put)).max() < 0.3
    assert np.abs(there_and_back(put).max(axis=-1)).max() < 0.05


def test_one_bin_is_the_distance_and_stays_exact():
    put = np.random.default_rng(3).standard_normal((7, 4, 1)).astype(np.float32) * 30
    assert len(pack_bins(put)) == put.nbytes
    assert there_and_back(put).tolist() == put.tolist()


@pytest.mark.parametrize("bins", [1, 16])
def test_no_anchor_is_no_byte(bins):
    put = np.zeros((0, 4, bins), np.float32)
    assert pack_bins(put) == b""
    assert there_and_back(put).shape == (0, 4, bins)


def test_a_head_in_half_precision_is_packed_as_its_fp32():
    half = trained_like(4, 9, 16, 4.0, 6.0).astype(np.float16)
    assert pack_bins(half) == pack_bins(half.astype(np.float32))


def test_bytes_may_come_as_any_buffer():
    put = trained_like(5, 3, 16, 4.0, 6.0)
    packed = pack_bins(put)
    assert unpack_bins(memoryview(packed), 3, 16).tolist() == unpack_bins(packed, 3, 16).tolist()


@settings(deadline=None, max_examples=200)
@given(put=VECTORS)
def test_no_channel_moves_by_more_than_half_a_step_of_its_vector(put):
    stored = pack_vectors(put)
    got = unpack_vectors(stored + b"of the next level", *put.shape)
    assert len(stored) == packed_size(*put.shape) == put.shape[0] * (put.shape[1] + 4)
    assert (got.shape, got.dtype) == (put.shape, np.float32)
    largest = np.abs(put).max(axis=1, keepdims=True, initial=0)
    assert (np.abs(got.astype(np.float64) - put) <= largest * 0.501 / 127 + 1e-37).all()


def test_zero_stays_zero_and_a_loud_neighbour_costs_a_quiet_vector_nothing():
    put = np.array([[0, 0, 0], [1e4, -1e4, 0], [1e-3, -1e-3, 5e-4]], np.float32)
    got = unpack_vectors(pack_vectors(put), 3, 3)
    assert got[0].tolist() == [0, 0, 0]
    assert np.allclose(got[1], put[1], rtol=1e-6)
    assert np.allclose(got[2], put[2], rtol=0, atol=5e-6)
