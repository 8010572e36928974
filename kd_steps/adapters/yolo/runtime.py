"""Settings of the process: Ultralytics' log, and what the C library does with memory that a step frees.

A step frees its activations and the next one wants as much again. glibc gives what is free at the end of the heap back
to the kernel as soon as it exceeds 64 MiB, and the kernel must then map and zero it page by page. PyTorch's tuning
guide names other allocators (jemalloc, tcmalloc) for this reason; glibc only needs to be told to keep it. What that
saves is measured by tests/bench/train_speed.py.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ultralytics.utils import LOGGER

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# The most that glibc takes (HEAP_MAX_SIZE / 2), and where it ends by itself in a process that frees large tensors.
MMAP_THRESHOLD_BYTES = 32 << 20
GLIBC_TRIM_BYTES = 2 * MMAP_THRESHOLD_BYTES
MOST_KEPT_BYTES = 2**31 - 1  # mallopt takes an int


@contextmanager
def quiet() -> Iterator[None]:
    """Let Ultralytics tell errors only: hold back what would tell a user of things that are not theirs."""
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def keep_freed_memory(most_bytes: int = MOST_KEPT_BYTES) -> bool:
    """Let the C library keep what this process frees, for its next step.

    Args:
        most_bytes: free bytes at the end of the heap above which they go back to the kernel.

    Returns:
        Whether the C library knows how; others than glibc do not, and nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Setting the first alone would freeze the second at its start of 128 KiB, and every tensor would be mapped anew.
    return bool(mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) and mallopt(M_TRIM_THRESHOLD, most_bytes))
