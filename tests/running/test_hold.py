"""One writer a stage, with real processes: alive, killed, stopped, in another PID namespace."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_steps.running.hold import HeldError, held, notes, running
from kd_steps.running.progress import FOLDER, note_path, read_note

REPOSITORY = Path(__file__).parents[2]
LEASE_S = 2.0
HOLDER = """
import sys, time
from pathlib import Path
from kd_steps.running import hold, progress
with hold.held(Path("."), "train_teacher", 2.0):
    progress.tell(0, 10, "epochs")
    time.sleep(1.1)
    progress.tell(4, 10, "epochs")
    print("held", flush=True)
    for _ in range(600):
        time.sleep(0.1)
"""
OTHER_NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]


def can_unshare() -> bool:
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run([*OTHER_NAMESPACE, "true"], capture_output=True, check=False).returncode
    )


@pytest.fixture
def start(tmp_path):
    started = []

    def holder(*wrapper: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", HOLDER],
            **{"cwd": tmp_path, "env": environment, "text": True},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True},
        )
        started.append(process)
        assert process.stdout.readline() == "held\n", process.stderr.read()
        return process

    yield holder
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_second_writer_learns_who_since_when_how_far_and_how_to_end_it(tmp_path, start):
    first = start()
    with pytest.raises(HeldError) as told, held(tmp_path, "train_teacher", LEASE_S):
        pass
    for word in (str(first.pid), "since 20", "4 of 10 epochs", f"kill -INT {first.pid}"):
        assert word in str(told.value)
    assert first.poll() is None
    with held(tmp_path, "distill", LEASE_S):  # another stage is another hold
        assert [note.stage for note in running(tmp_path)] == ["distill", "train_teacher"]


def test_a_killed_writer_is_followed_at_once(tmp_path, start):
    first = start()
    first.kill()
    first.wait()
    began = time.monotonic()
    with held(tmp_path, "train_teacher", 60.0 if sys.platform != "linux" else LEASE_S):
        assert read_note(note_path(tmp_path, "train_teacher")).pid == os.getpid()
    assert time.monotonic() - began < LEASE_S
    assert running(tmp_path) == []
    assert not list((tmp_path / FOLDER).iterdir()), "nothing is left of it"


def test_ctrl_c_ends_a_hold(tmp_path, start):
    first = start()
    first.send_signal(signal.SIGINT)
    first.wait(timeout=20)
    with held(tmp_path, "train_teacher", LEASE_S):
        pass


def test_a_writer_that_stood_still_is_followed_and_ends_when_it_wakes(tmp_path, start):
    """As a suspended machine's: its process lives, but cannot know that its time is over."""
    first = start()
    os.kill(first.pid, signal.SIGSTOP)
    with held(tmp_path, "train_teacher", LEASE_S):
        os.kill(first.pid, signal.SIGCONT)
        assert first.wait(timeout=30) != 0
        assert read_note(note_path(tmp_path, "train_teacher")).pid == os.getpid(), "it does not take our note away"
    assert "no longer held by this process" in first.stderr.read()


@pytest.mark.skipif(not can_unshare(), reason="this user may not make a PID namespace")
def test_containers_on_one_volume_have_one_writer(tmp_path, start):
    """Two PID namespaces, in which no number means the same process, on one host name."""
    first = start(*OTHER_NAMESPACE)
    with pytest.raises(HeldError, match="4 of 10 epochs"), held(tmp_path, "train_teacher", LEASE_S):
        pass
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    with held(tmp_path, "train_teacher", LEASE_S):  # its silence tells
        pass


def test_a_note_of_another_release_or_a_torn_one_is_no_obstacle(tmp_path, start):
    start()
    for text in ('{"stage": "train', json.dumps({"stage": "train_teacher"}), "[]"):
        note_path(tmp_path, "train_teacher").write_text(text)
        with pytest.raises(HeldError, match="wrote no note"), held(tmp_path, "train_teacher", LEASE_S):
            pass


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_off_hinders_nobody(tmp_path, start, hours):
    """A network folder's times are its server's: a living writer is refused, a dead one followed, by our clock."""
    first = start()
    lock = tmp_path / FOLDER / "train_teacher.lock"
    off_s = hours * 3600.0
    os.utime(lock, (time.time() + off_s, time.time() + off_s))
    ((note, silent_s),) = notes(tmp_path)
    assert (note.pid, round(silent_s / 60)) == (first.pid, round(-off_s / 60))
    with pytest.raises(HeldError), held(tmp_path, "train_teacher", LEASE_S):
        pass
    first.kill()
    first.wait()
    os.utime(lock, (time.time() + off_s, time.time() + off_s))
    with held(tmp_path, "train_teacher", LEASE_S):
        pass


def test_what_runs_can_be_read_where_nothing_can_be_written(tmp_path, start):
    start()
    folder = tmp_path / FOLDER
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    try:
        (note,) = running(tmp_path)
    finally:
        folder.chmod(0o755)
    assert (note.stage, note.how_far().partition(",")[0]) == ("train_teacher", "4 of 10 epochs")
    assert sorted(folder.iterdir()) == before
