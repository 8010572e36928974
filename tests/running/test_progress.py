import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_steps.running import progress

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def note(tmp_path):
    (tmp_path / progress.FOLDER).mkdir(parents=True)
    progress.begin(tmp_path, "distill")
    path = progress.note_path(tmp_path, "distill")
    yield lambda: progress.read_note(path)
    progress.end()
    assert not path.exists()


def test_the_time_left_goes_by_the_speed_so_far(note, monkeypatch):
    assert note().how_far() == ""
    clock = [time.monotonic() + 10]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress.tell(2, 12, "epochs")  # a resumed training: what was done before took no time of ours
    assert note().left_s is None
    clock[0] += 60
    progress.tell(4, 12, "epochs")
    assert note().left_s == pytest.approx(240)
    assert note().how_far() == "4 of 12 epochs, about 4 min left"
    clock[0] += 1
    progress.tell(0, 300, "views")  # another job of the stage
    assert note().how_far() == "0 of 300 views"


def test_many_tells_cost_few_writes_and_the_last_is_there(note, tmp_path):
    path = progress.note_path(tmp_path, "distill")
    progress.tell(0, 5000, "views")
    seen = set()
    for done in range(1, 5001):
        progress.tell(done, 5000, "views")
        seen.add(path.stat().st_ino)
    assert len(seen) < 100
    assert note().done == 5000


def test_a_process_of_the_stage_speaks_for_it(note):
    code = "from kd_steps.running import progress; progress.tell(1, 3, 'epochs'); progress.tell(3, 3, 'epochs')"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True)
    assert (note().pid, note().done) == (os.getpid(), 3)


def test_a_full_disk_ends_no_work(note, tmp_path):
    path = progress.note_path(tmp_path, "distill")
    path.with_suffix(f".{os.getpid()}").symlink_to("/dev/full")
    progress.tell(1, 2, "epochs")
    path.with_suffix(f".{os.getpid()}").unlink()


def test_without_a_stage_nothing_is_said(tmp_path):
    progress.tell(1, 2, "epochs")
    assert progress.read_note(tmp_path / "none.json") is None
    assert progress.OF_THE_STAGE not in os.environ


@pytest.mark.parametrize(("seconds", "told"), [(5, "5 s"), (600, "10 min"), (7200, "2.0 h")])
def test_durations_are_told_in_the_unit_that_fits(seconds, told):
    note = progress.Note("a", "b", "c", 1, "d", done=1, of=2, unit="epochs", left_s=seconds)
    assert note.how_far() == f"1 of 2 epochs, about {told} left"
    assert json.loads(json.dumps(note.__dict__))["left_s"] == seconds
