"""A teacher cache that is foreign, damaged, torn or out of room: refused by name, mended shard by shard."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cache_writer import HEADER, IMAGES, KEYS, Answers, fill

from kd_steps.adapters.teacher_cache import CacheError, TeacherCache, open_for_writing, write_shards

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path / "cache")
    return tmp_path / "cache"


FOREIGN = {
    "teacher_sha256": "0" * 64,
    "contract_digest": "0" * 64,
    "augmentation_digest": "0" * 64,
    "dataset_digest": "0" * 64,
    "seed": 7,
    "views": 3,
    "closing_views": 2,
    "library_versions": {"torch": "2.1", "numpy": "2.0"},
    "precision": "bf16",
    "score_threshold": 0.5,
    "attention": False,
    "pixels": False,
    "max_vectors": 2,
    "layout": 1,
}


@pytest.mark.parametrize("field", FOREIGN)
def test_a_cache_made_from_something_else_is_refused_by_name(folder, field):
    expected = replace(HEADER, **{field: FOREIGN[field]})
    with pytest.raises(CacheError, match=rf"something else \({field}: .*; run `dvc repro cache_logits`"):
        TeacherCache(folder, expected, KEYS)


@pytest.mark.parametrize("field", set(FOREIGN) - {"views", "closing_views"})
def test_writing_over_a_cache_made_from_something_else_keeps_none_of_it(folder, field):
    expected = replace(HEADER, **{field: FOREIGN[field]})
    told, made, asked = fill(folder, expected)
    assert told.startswith("another cache stood here (" + field)
    assert asked == list(KEYS)
    assert all(fresh for _, fresh in made)
    assert len(TeacherCache(folder, expected, KEYS)) == 15


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def damage_the_note(path):
    path.with_suffix(".json").write_text('{"sha256": "')


DAMAGES = {
    "bit": (flip_a_bit, "sha256 differs"),
    "truncated": (truncate, "sha256 differs"),
    "no note": (lambda path: path.with_suffix(".json").unlink(), "is missing or was not finished"),
    "torn note": (damage_the_note, "was not finished"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_and_made_again_alone(folder, damage):
    harm, message = DAMAGES[damage]
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    harm(folder / "shard-mosaic-001-000.arrow")
    with pytest.raises(CacheError, match=rf"shard-mosaic-001-000.arrow: .*{message}.*makes only this shard again"):
        TeacherCache(folder, HEADER, KEYS)
    _, made, asked = fill(folder)
    assert asked == KEYS[5:9]
    assert [fresh for _, fresh in made] == [False, False, True, False, False, False]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_a_missing_shard_makes_the_cache_incomplete(folder):
    (folder / "shard-mosaic-001-001.arrow").unlink()
    (folder / "shard-mosaic-001-001.json").unlink()
    with pytest.raises(CacheError, match=r"holds 14 of 15 views; run `dvc repro cache_logits` to finish it"):
        TeacherCache(folder, HEADER, KEYS)


def test_no_cache_and_an_unknown_view_are_told(folder, tmp_path):
    with pytest.raises(CacheError, match=r"nowhere: no teacher cache; run `dvc repro cache_logits`"):
        TeacherCache(tmp_path / "nowhere", HEADER, KEYS)
    with pytest.raises(CacheError, match="no answer for picture ffffffffffff"):
        TeacherCache(folder, HEADER, KEYS).record("f" * 64, KEYS[0].view)


def test_shards_that_changed_places_are_told(tmp_path):
    """Each holds the same pictures in the same rows, of another view."""
    open_for_writing(tmp_path, HEADER)
    write_shards(tmp_path, HEADER, KEYS, len(IMAGES), Answers(), lambda count, fresh: None)
    for ending in ("arrow", "json"):
        first, second = (tmp_path / f"shard-mosaic-00{number}-000.{ending}" for number in (0, 1))
        kept = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(kept)
    with pytest.raises(CacheError, match=r"mosaic-000-000\.arrow: batch 0 holds another view than its place says"):
        TeacherCache(tmp_path, HEADER, KEYS).record(KEYS[0].image, KEYS[0].view)


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
t.write_shards(Path(sys.argv[1]), t.HEADER, t.KEYS, t.SHARD_VIEWS, slow, lambda *_: None)
"""


def test_a_kill_loses_only_the_shard_in_the_making(tmp_path):
    folder = tmp_path / "cache"
    code = SLOW_WRITER.format(tests=str(REPOSITORY / "tests"))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment) as process:
        while not (folder / "shard-mosaic-000-001.json").exists():
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
        f"sys.path.insert(0, {str(REPOSITORY / 'tests')!r})\n"
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
    finished = sorted(path.stem for path in folder.glob("shard-*.json"))
    assert 0 < len(finished) < 6
    assert not list(folder.glob(".*")), "half-written files are cleared away"
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=400k", str(small_disk)], check=True)
    told, made, asked = fill(folder)
    assert told == "resumed"
    assert [fresh for _, fresh in made] == [False] * len(finished) + [True] * (6 - len(finished))
    assert asked == KEYS[sum([4, 1, 4, 1, 4, 1][: len(finished)]) :]
    assert len(TeacherCache(folder, HEADER, KEYS)) == 15
