"""No orphan: a process ends with the one that started it, and takes its own children along."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
STAGE = f"""
import os, subprocess, sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from kd_steps.running.parent import end_with_dvc
end_with_dvc()
child = subprocess.Popen([sys.executable, "-c", CHILD])
open("pids", "w").write(f"{{os.getpid()}} {{child.pid}}")
DEAF
while True:
    time.sleep(0.1)
"""
PATIENT = "import time\nwhile True: time.sleep(0.1)"
DEAF_CHILD = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(0.1)"
# Starts a shell that stays between, as DVC's may, and waits.
DVC = """
import os, subprocess, sys
shell = subprocess.Popen(["/bin/sh", "-c", f"{sys.executable} stage.py; echo after"], env={**os.environ, **EXTRA})
shell.wait()
"""


def start(folder, child=PATIENT, deaf="", stage_of_dvc=True):
    (folder / "stage.py").write_text(STAGE.replace("CHILD", repr(child)).replace("DEAF", deaf))
    extra = {"DVC_STAGE": "train_teacher"} if stage_of_dvc else {}
    code = DVC.replace("EXTRA", repr(extra))
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("DVC_STAGE")}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=quiet, start_new_session=True)
    deadline = time.monotonic() + 60
    while not ((folder / "pids").exists() and (folder / "pids").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, [psutil.Process(int(pid)) for pid in (folder / "pids").read_text().split()]


def gone(processes, seconds):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("deaf", [False, True])
def test_a_stage_ends_when_its_dvc_was_killed(tmp_path, deaf):
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" if deaf else ""
    dvc, family = start(tmp_path, DEAF_CHILD if deaf else PATIENT, ignore)
    dvc.kill()
    dvc.wait()
    assert gone(family, 60 if deaf else 20)


def test_a_stage_started_by_hand_goes_on_without_its_terminal(tmp_path):
    by_hand, family = start(tmp_path, stage_of_dvc=False)
    by_hand.kill()
    by_hand.wait()
    time.sleep(3)
    assert all(one.is_running() for one in family)
    for one in family:
        one.send_signal(signal.SIGKILL)
    assert gone(family, 20)
