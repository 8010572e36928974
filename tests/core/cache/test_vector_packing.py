"""Neck vectors as bytes: what a channel loses, and what they take."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kd_steps.core.cache.vector_packing import pack_vectors, packed_size, unpack_vectors

VECTORS = st.tuples(st.integers(0, 12), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-1e4, 1e4, width=32))
)


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
