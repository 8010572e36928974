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


SIGNALLED = """
import os, signal, sys
from pathlib import Path
from kd_steps.edge.engines import open_engine
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append("handled"))
engines = [open_engine(Path(sys.argv[1]), "openvino", 1, "f32") for _ in range(3)]
for place in (0, 0, 0):
    del engines[place]
os.kill(os.getpid(), signal.SIGUSR1)
print(*told)
"""


def test_a_signal_after_engines_have_gone_in_any_order_is_handled(engines_dir):
    """Each core of OpenVINO puts back the signal stack that it found, though that may be gone: the process died."""
    command = [sys.executable, "-c", SIGNALLED, str(engines_dir / "openvino-fp16/model.xml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_without_that_openvino_does_report():
    """The test above can fail: a plain import starts the thread."""
    plain = TELL.replace("quiet_openvino()", "__import__('openvino')")
    done = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True, check=False)
    if "backend" not in done.stdout:
        pytest.fail(f"OpenVINO no longer reports by itself; quiet_openvino can go: {done.stdout}{done.stderr}")
