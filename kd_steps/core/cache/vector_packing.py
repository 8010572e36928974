"""Neck vectors as bytes: a signed byte a channel, and each vector's scale.

A vector's largest channel is stored as ±127, so that no channel moves by more than 1/254 of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_CODE = 127
SCALE = np.dtype(np.float32)


def pack_vectors(vectors: NDArray[np.floating[Any]]) -> bytes:
    """Vectors of one level → bytes: their scales, then a code for each channel.

    Args:
        vectors: finite, shape (n, channels).
    """
    values = vectors.astype(np.float32)
    scales: NDArray[np.float32] = np.abs(values).max(axis=1, initial=0.0) / np.float32(LARGEST_CODE)
    steps = values / np.where(scales > 0, scales, 1)[:, None]
    codes = np.rint(steps).clip(-LARGEST_CODE, LARGEST_CODE).astype(np.int8)
    return bytes(scales.data) + bytes(codes.data)


def unpack_vectors(stored: Any, count: int, channels: int) -> NDArray[np.float32]:
    """The reverse of :func:`pack_vectors`.

    Args:
        stored: bytes or a buffer; what follows the level's own bytes is left alone.
        count: vectors, n.
        channels: of a vector.

    Returns:
        Shape (n, channels).
    """
    scales = np.frombuffer(stored, SCALE, count)
    codes = np.frombuffer(stored, np.int8, count * channels, offset=scales.nbytes)
    return codes.reshape(count, channels) * scales[:, None]


def packed_size(count: int, channels: int) -> int:
    """Bytes of so many vectors."""
    return count * (SCALE.itemsize + channels)
