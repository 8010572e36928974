"""The writing of a teacher cache, killed or out of room: what was finished stays, and the next run goes on there."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cache_writer import HEADER, KEYS, fill

from kd_steps.adapters.cache.folder import CacheError
from kd_steps.adapters.cache.store import TeacherCache

REPOSITORY = Path(__file__).parents[3]

SLOW_WRITER = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import cache_writer as t

def slow(keys):
    for key in keys:
        time.sleep(0.05)
        yield t.view_of(key)

t.open_for_writing(Path(sys.argv[1]), t.HEADER)
t.write_shards(Path(sys.argv[1]), t.HEADER, t.KEYS, t.SHARD_VIEWS, 'fp32', slow, lambda *_: None)
"""


def test_a_kill_loses_only_the_shard_in_the_making(tmp_path):
    folder = tmp_path / "cache"
    code = SLOW_WRITER.format(tests=str(REPOSITORY / "tests/support"))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment) as process:
        while not (folder / "shard-mosaic-000-001.sha256").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "shard-closing-000-000.arrow").exists(), "killed before the end"
    with pytest.raises(CacheError):
        TeacherCache(folder, HEADER, KEYS)
    kept = (folder / "shard-mosaic-000-000.arrow").stat().st_mtime_ns
    told, made, asked = fill(folder)
    assert told == "resumed"
    assert (folder / "shard-mosaic-000-000.arrow").stat().st_mtime_ns == kept
    assert [fresh for _, fresh in made[:2]] == [False, False]
    assert asked == KEYS[-len(asked) :]
    fill(tmp_path / "undisturbed")
    for path in (tmp_path / "undisturbed").iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_a_full_disk_is_told_and_loses_nothing_finished(small_disk):
    folder, ballast = small_disk / "cache", small_disk / "ballast"
    ballast.write_bytes(b"x" * 24_000)
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(REPOSITORY / 'tests/support')!r})\n"
        "from pathlib import Path\n"
        "import cache_writer as t\n"
        "from kd_steps.stage_entry import run_stage\n"
        "run_stage(lambda: t.fill(Path(sys.argv[1])) and None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=small_disk.parent,  # where the stage's costs are noted
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert os.strerror(errno.ENOSPC) in done.stderr
    assert "Traceback" not in done.stderr
    finished = sorted(path.stem for path in folder.glob("shard-*.sha256"))
    assert 0 < len(finished) < 6
    assert not list(folder.glob(".*")), "half-written files are cleared away"
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=400k", str(small_disk)], check=True)
    told, made, asked = fill(folder)
    assert told == "resumed"
    assert [fresh for _, fresh in made] == [False] * len(finished) + [True] * (6 - len(finished))
    assert asked == KEYS[sum([4, 1, 4, 1, 4, 1][: len(finished)]) :]
    assert len(TeacherCache(folder, HEADER, KEYS)) == 15
