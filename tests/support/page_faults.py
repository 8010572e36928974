"""How many pages the kernel must map for a step whose predecessors freed as much as it takes."""

import ctypes
import platform
import resource

import pytest

BLOCKS, BLOCK_BYTES, PAGE_BYTES = 20, 8 << 20, 4096
PAGES = BLOCKS * BLOCK_BYTES // PAGE_BYTES
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")


def pages_of_a_step():
    """Pages mapped in the last of four steps, each of which takes, writes and frees ``PAGES``."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [libc.malloc(BLOCK_BYTES) for _ in range(BLOCKS)]
        for block in blocks:
            libc.memset(block, 1, BLOCK_BYTES)
        for block in blocks:
            libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
