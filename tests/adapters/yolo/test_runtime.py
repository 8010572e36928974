"""What a process keeps of the memory that its steps free."""

import subprocess
import sys

import pytest
from page_faults import PAGES, needs_glibc

from kd_steps.adapters.yolo.runtime import GLIBC_TRIM_BYTES, MOST_KEPT_BYTES

pytestmark = pytest.mark.slow


@needs_glibc
def test_a_step_finds_the_memory_of_the_step_before():
    pages = {}
    for most in (MOST_KEPT_BYTES, GLIBC_TRIM_BYTES):
        asked = f"""
import sys
sys.path[:] = {sys.path!r}
from kd_steps.adapters.yolo.runtime import keep_freed_memory
from page_faults import pages_of_a_step
assert keep_freed_memory({most})
print(pages_of_a_step())
"""
        ended = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
        pages[most] = int(ended.stdout)
    assert pages[GLIBC_TRIM_BYTES] > PAGES // 2, "glibc's own threshold costs nothing any more: drop ours"
    assert pages[MOST_KEPT_BYTES] < PAGES // 20
