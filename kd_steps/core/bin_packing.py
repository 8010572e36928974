"""Box bins as bytes: only the bins that a side's distribution uses, in sixteen bits.

A trained head puts a side's probability on a few of its bins. The others are stored as absent, which takes a third of
the bytes of all bins in half precision. The logits are in steps of one size, not in half precision, whose steps grow
with distance from the largest: with 16 bins, no distribution at all can move a decoded side by more than a thousandth
of a stride. Eight bits a bin would take as few bytes and move it by a tenth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_RELATIVE_LOGIT = -14.0  # e^-14, below a millionth of the side's likeliest bin: absent
STEP = LEAST_RELATIVE_LOGIT / 65535


def pack_bins(bins: NDArray[np.floating[Any]]) -> bytes:
    """Raw box outputs → bytes: a bit mask of the bins kept, then their logits relative to the side's largest.

    Args:
        bins: shape (n, 4, bins); with one bin, distances, which are stored in single precision.
    """
    if bins.shape[-1] == 1:
        return bytes(bins.astype(np.float32).data)
    relative = bins.astype(np.float32) - bins.max(axis=-1, keepdims=True, initial=-np.inf)
    kept = relative > LEAST_RELATIVE_LOGIT
    return bytes(np.packbits(kept).data) + bytes(np.rint(relative[kept] / STEP).astype(np.uint16).data)


def unpack_bins(stored: Any, count: int, bins: int) -> NDArray[np.float32]:
    """The reverse of :func:`pack_bins`.

    Args:
        stored: bytes or a buffer.
        count: anchors, n.
        bins: bins a side.

    Returns:
        Shape (n, 4, bins); logits relative to the largest of their side, the absent ones just below the least kept.
    """
    if bins == 1:
        return np.frombuffer(stored, np.float32).reshape(count, 4, 1)
    total = count * 4 * bins
    mask_bytes = -(-total // 8)
    kept = np.unpackbits(np.frombuffer(stored, np.uint8, mask_bytes), count=total).astype(bool)
    logits = np.full(total, LEAST_RELATIVE_LOGIT, np.float32)
    logits[kept] = np.frombuffer(stored, np.uint16, offset=mask_bytes) * np.float32(STEP)
    return logits.reshape(count, 4, bins)
