"""What an answer holds, as bytes: a byte a box bin, a byte a channel of a neck vector.

Box bins have beside them what the rounding did to the side. A bin far below the likeliest one hardly counts, so logits
are rounded in steps that grow with their distance from it. Rounding alone would move a decoded side by up to a
hundredth of a stride, a third of a pixel at the coarsest level. So its error is stored in sixteen bits a side, and
unpacking shifts the bin with the most leverage until the side is right: 72 bytes an anchor of 16 bins keep every side
to a hundredth of a pixel, whatever its distribution, and the distribution itself to a divergence of about 1e-4.

A neck vector has its scale beside it. Its largest channel is stored as ±127, so that no channel moves by more than
1/254 of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_RELATIVE_LOGIT = -14.0  # e^-14, below a millionth of the side's likeliest bin: told no further
GROWTH = 5.0  # steps grow by e where a logit falls by this much: 0.02 at the likeliest bin, 0.1 nine below
# A code → its logit, relative to the largest of its side.
LEVELS = (GROWTH * np.log1p(np.linspace(0, np.exp(LEAST_RELATIVE_LOGIT / GROWTH) - 1, 256))).astype(np.float32)
ERROR_STEP = 0.5 / 32767  # strides; rounding moves no side by half a stride
LARGEST_CODE = 127  # of a channel
SCALE = np.dtype(np.float32)


def pack_bins(bins: NDArray[np.floating[Any]]) -> bytes:
    """Raw box outputs → bytes: a code for each bin, then the error of each side.

    Args:
        bins: shape (n, 4, bins); with one bin, distances, which are stored in single precision.
    """
    if bins.shape[-1] == 1:
        return bytes(bins.astype(np.float32).data)
    relative = bins.astype(np.float32) - bins.max(axis=-1, keepdims=True, initial=-np.inf)
    halfway = (LEVELS[1:] + LEVELS[:-1]) / 2
    codes = np.searchsorted(-halfway, -relative).astype(np.uint8)
    error = (_side(relative) - _side(LEVELS[codes])) / ERROR_STEP
    return bytes(codes.data) + bytes(np.rint(error).clip(-32767, 32767).astype(np.int16).data)


def unpack_bins(stored: Any, count: int, bins: int) -> NDArray[np.float32]:
    """The reverse of :func:`pack_bins`.

    Args:
        stored: bytes or a buffer.
        count: anchors, n.
        bins: bins a side.

    Returns:
        Shape (n, 4, bins); logits relative to the largest of their side.
    """
    if bins == 1:
        return np.frombuffer(stored, np.float32).reshape(count, 4, 1)
    codes = np.frombuffer(stored, np.uint8, count * 4 * bins).reshape(count, 4, bins)
    errors = np.frombuffer(stored, np.int16, offset=codes.size).reshape(count, 4)
    logits = LEVELS[codes]
    return _with_sides_moved(logits, errors * np.float32(ERROR_STEP))


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


def _with_sides_moved(logits: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shift one logit of each side such that the side moves by so many strides; changes ``logits``."""
    places = np.arange(logits.shape[-1], dtype=np.float32)
    weights = np.exp(logits)
    total, moment = weights.sum(axis=-1), weights @ places
    side = moment / total
    lever = (weights * (places - side[..., None]) ** 2).argmax(axis=-1)
    weight = np.take_along_axis(weights, lever[..., None], axis=-1)[..., 0]
    wanted = side + by
    # wanted = (moment of the others + its weight · its place) / (total of the others + its weight)
    needed = (wanted * (total - weight) - (moment - weight * lever)) / (lever - wanted)
    needed = np.log(np.maximum(needed, np.exp(LEAST_RELATIVE_LOGIT)))
    np.put_along_axis(logits, lever[..., None], needed.astype(np.float32)[..., None], axis=-1)
    return logits


def _side(relative: NDArray[np.float32]) -> NDArray[np.float64]:
    """What bins decode to: their expectation, in strides."""
    powers = np.exp(relative.astype(np.float64))
    side: NDArray[np.float64] = (powers @ np.arange(relative.shape[-1])) / powers.sum(axis=-1)
    return side
