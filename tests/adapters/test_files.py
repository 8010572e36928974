"""Atomic writes and folders that survive a kill."""

import json
import signal
import subprocess
import sys

import pytest

from kd_steps.adapters.files import atomic_path, files_below, sha256_of, sole_writer, swap_folder, write_json
from kd_steps.artifacts import read_json


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_path(path) as temporary:
        temporary.write_text("ne\udcff", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_a_kill_left_half_written_goes_with_the_next_try(tmp_path):
    path, other = tmp_path / "shard-0.arrow", tmp_path / ".shard-0.arrow.notes.arrow"
    killed = (
        "import os, signal, sys; from pathlib import Path; from kd_steps.adapters.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('ha'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(path)], check=False).returncode == -9
    (torn,) = tmp_path.iterdir()
    assert torn.read_text() == "ha"
    other.write_text("somebody else's")
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {path.name: "whole", other.name: "somebody else's"}


def test_json_round_trip_and_its_faults(tmp_path):
    write_json(tmp_path / "deep/a.json", {"b": 1, "a": [0.5]})
    assert read_json(tmp_path / "deep/a.json") == {"b": 1, "a": [0.5]}
    assert list(json.loads((tmp_path / "deep/a.json").read_text())) == ["b", "a"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not (tmp_path / "a.json").exists()
    with pytest.raises(FileNotFoundError, match=r"a\.json: no such file; `dvc repro` makes it"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json: not valid JSON .*; delete it"):
        read_json(tmp_path / "a.json")


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


HOLD = """
import sys, time; from pathlib import Path; from kd_steps.adapters.files import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True); time.sleep(600)
"""


def test_a_folder_has_one_writer_and_a_killed_one_lets_go(tmp_path):
    folder = tmp_path / "new/cache"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=r"cache: another process is writing there; wait"), sole_writer(folder):
            raise AssertionError("never here")
        other.send_signal(signal.SIGKILL)
        other.wait()
    with sole_writer(folder):
        assert not list(folder.iterdir()), "holding it leaves no file in an output of DVC's"


def test_a_writers_own_faults_go_through_and_let_go(tmp_path):
    with pytest.raises(BlockingIOError, match="own"), sole_writer(tmp_path):
        raise BlockingIOError("own")
    with sole_writer(tmp_path):
        pass


def test_files_below_a_folder_are_found_through_links_once_each(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "b").mkdir(parents=True)
    outside.mkdir()
    for path in (inside / "b/1.PNG", inside / "2.png", inside / "3.txt", outside / "4.png"):
        path.touch()
    (inside / "folder.png").mkdir()
    (inside / "a").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    (inside / "5.png").symlink_to("nowhere")
    found = files_below(inside, {".png"})
    assert [path.relative_to(inside).as_posix() for path in found] == ["2.png", "a/4.png", "b/1.PNG"]
    assert files_below(tmp_path / "none", {".png"}) == []


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_takes_the_place_of_one_on_another_file_system(tmp_path, small_disk, there):
    finished, target = tmp_path / "finished", small_disk / "data/prepared"
    finished.mkdir()
    (finished / "new").touch()
    if there:
        target.mkdir(parents=True)
        (target / "old").touch()
    swap_folder(finished, target)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["prepared"]
