"""How a run ends: killed, interrupted twice, with its reader gone, beside another run. Real processes, small stages."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.dag import is_up_to_date, when_free
from flows.dvc_process import BusyError
from kd_steps.running.progress import note_path, read_note

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
STAGES = """
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    outs: [weights.pt]
"""
TRAIN = """
import os, time
from pathlib import Path
from kd_steps.running import progress
from kd_steps.stage_entry import run_stage

def main():
    for step in range(SECONDS * 10):
        time.sleep(0.1)
        progress.tell(step, SECONDS * 10, "epochs")
        if not QUIET:
            print("step", step, flush=True)
    Path("weights.pt").write_text("trained")
    Path("trained").open("a").write("once\\n")

run_stage(main)
"""
RUN = """
import sys
from pathlib import Path
from flows.dvc_process import reproduce
sys.exit(0 if reproduce(Path("."), "train", False, None, print) else 1)
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "dvc.yaml").write_text(STAGES)
    (tmp_path / "train.py").write_text(TRAIN.replace("SECONDS", "120").replace("QUIET", "False"))
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def start(project):
    started = []

    def run(code: str = RUN, **options) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=project, env=environment, start_new_session=True, **options
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def stage_process(project, seconds=60) -> psutil.Process:
    """The stage's process, once it trains."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        note = read_note(note_path(project, "train"))
        if note is not None and note.of and psutil.pid_exists(note.pid):
            return psutil.Process(note.pid)
        time.sleep(0.1)
    raise AssertionError("the stage did not begin")


def family_of(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes, seconds) -> bool:
    alive = psutil.wait_procs(processes, timeout=seconds)[1]
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_dvc_and_stage_end_with_a_killed_flow(project, start):
    flow = start()
    stage_process(project)
    family = family_of(flow)
    assert len(family) >= 2
    flow.kill()
    flow.wait()
    assert all_gone(family, 30)
    assert read_note(note_path(project, "train")) is None, "it ended in peace: its note and its hold are gone"


def test_a_stage_ends_with_its_killed_dvc_and_is_tried_again(project, start):
    flow = start(stderr=subprocess.PIPE, text=True)
    stage = stage_process(project)
    stage.parent().kill()
    assert all_gone([stage], 30)
    assert flow.wait(timeout=60) == 1
    assert "InfrastructureError: train" in flow.stderr.read()
    assert not (project / "weights.pt").exists()


def test_ctrl_c_twice_ends_at_once(project, start):
    deaf = TRAIN.replace("def main", "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\ndef main")
    (project / "train.py").write_text(deaf.replace("SECONDS", "120").replace("QUIET", "False"))
    flow = start()
    stage = stage_process(project)
    os.killpg(flow.pid, signal.SIGINT)  # as a terminal sends it, to all in front
    time.sleep(2)
    began = time.monotonic()
    os.killpg(flow.pid, signal.SIGINT)
    assert flow.wait(timeout=30) != 0
    assert all_gone([stage], 10)
    assert time.monotonic() - began < 8, "the second one is not made to wait for the patience with the first"


def test_a_flow_outlives_the_reader_of_its_output(project, start):
    (project / "train.py").write_text(TRAIN.replace("SECONDS", "3").replace("QUIET", "False"))
    code = "from kd_steps.running import pipes\npipes.go_on_without_reader()\n" + RUN
    flow = start(code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    stage_process(project)
    flow.stdout.close()  # as when the worker that reads it was killed
    assert flow.wait(timeout=60) == 0
    assert (project / "weights.pt").read_text() == "trained"
    assert is_up_to_date(project, "train")


def test_of_two_runs_at_once_one_works_and_the_other_waits(project, start):
    (project / "train.py").write_text(TRAIN.replace("SECONDS", "15").replace("QUIET", "True"))
    first = start()
    stage_process(project)
    code = (
        "import sys\nfrom pathlib import Path\nfrom flows import dag\nfrom flows.dvc_process import reproduce\n"
        "tail = dag.when_free(lambda: reproduce(Path('.'), 'train', False, None, print), 60, print, 1.0)\n"
        "sys.exit(0 if any(dag.UNCHANGED in line for line in tail) else 3)\n"
    )
    second = start(code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told = second.communicate(timeout=100)[0]
    assert first.wait(timeout=60) == 0
    assert second.returncode == 0, told
    assert "waiting, for" in told
    assert (project / "trained").read_text() == "once\n"


def test_a_wait_has_an_end():
    def busy() -> list[str]:
        raise BusyError("train: the disk is full")

    with pytest.raises(BusyError, match="full"):
        when_free(busy, 5, print)
