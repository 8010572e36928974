"""Runtimes: what opening one does besides."""

import subprocess
import sys

import pytest

TELL = """
import sys, threading
from kd_steps.edge.engines import quiet_openvino
quiet_openvino().Core()
print([name for name in sys.modules if name.startswith("openvino_telemetry.")], threading.active_count())
"""


def test_openvino_runs_without_its_reporting_and_its_thread():
    done = subprocess.run([sys.executable, "-c", TELL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[] 1\n"), done.stderr


def test_without_that_openvino_does_report():
    """The test above can fail: a plain import starts the thread."""
    plain = TELL.replace("quiet_openvino()", "__import__('openvino')")
    done = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True, check=False)
    if "backend" not in done.stdout:
        pytest.fail(f"OpenVINO no longer reports by itself; quiet_openvino can go: {done.stdout}{done.stderr}")
