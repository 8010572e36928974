"""The teacher cache on disk: exact enough, refused when foreign, mended shard by shard."""

import errno
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from cache_fixture import FULL, made_up_view, require_same_record
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.adapters.teacher_cache import (
    CacheError,
    CacheKeys,
    TeacherCache,
    ViewOfImage,
    open_for_writing,
    write_shards,
)
from kd_steps.core.views import View, plan_views

REPOSITORY = Path(__file__).parents[2]
HEADER = FULL
IMAGES = [hashlib.sha256(bytes([i])).hexdigest() for i in range(5)]
KEYS = CacheKeys(IMAGES, plan_views(7, 0.15, 2, 1).all_views())  # 15 views; shards of 4 make 4 files
SHARD_VIEWS = 4


def view_of(key, header=HEADER, anchors=40):
    """A made-up answered view that depends on nothing but its key; now and then one without any anchor."""
    words = f"{key.image}{key.view}".encode()
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(words).digest()[:8], "little"))
    return made_up_view(random, header, 0 if random.random() < 0.2 else anchors)


class Answers:
    """Answers keys, and remembers which it was asked for."""

    def __init__(self, header=HEADER):
        self.asked, self.header = [], header

    def __call__(self, keys):
        for key in keys:
            self.asked.append(key)
            yield view_of(key, self.header)


def fill(folder, header=HEADER, answers=None):
    answers = answers or Answers(header)
    told = open_for_writing(folder, header)
    made = []
    write_shards(folder, header, KEYS, SHARD_VIEWS, answers, lambda count, fresh: made.append((count, fresh)))
    return told, made, answers.asked


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path / "cache")
    return tmp_path / "cache"


CONTENTS = {
    "everything": {"two_branches": True},
    "one branch": {},
    "nothing beside the head": {"attention": False, "pooled": False, "max_vectors": 0, "pixels": False},
    "no bins": {"bins": 1},
}


@pytest.mark.parametrize("content", CONTENTS)
def test_round_trip(tmp_path, content):
    header = replace(HEADER, **CONTENTS[content])
    fill(tmp_path, header)
    cache = TeacherCache(tmp_path, header, KEYS)
    for key in KEYS:
        put = view_of(key, header)
        require_same_record(cache.record(key.image, key.view), put.record)
        kept = cache.sample(key.image, key.view)
        assert (kept is None) is (not header.pixels)
        if kept is not None:
            assert np.array_equal(kept[0], put.pixels)
            assert np.array_equal(kept[1], put.labels)
    assert any(len(view_of(key, header).record.many.anchors) == 0 for key in KEYS), "one without anchors is among them"
    assert any(len(view_of(key, header).labels) == 0 for key in KEYS), "one without objects is among them"
    assert cache.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.arrow"))


def test_pixels_are_compressed(tmp_path):
    class Boards(Answers):
        def __call__(self, keys):
            for view in super().__call__(keys):
                yield replace(view, pixels=np.full_like(view.pixels, 114))

    fill(tmp_path / "noise")
    fill(tmp_path / "boards", answers=Boards())
    fill(tmp_path / "none", replace(HEADER, pixels=False))
    sizes = {
        name: sum(path.stat().st_size for path in (tmp_path / name).glob("*.arrow"))
        for name in ("noise", "boards", "none")
    }
    assert sizes["noise"] > sizes["none"] + 15 * HEADER.pixel_bytes
    assert sizes["boards"] < sizes["none"] + 15 * HEADER.pixel_bytes / 10


@settings(deadline=None, max_examples=60)
@given(
    numbers=st.sets(st.integers(0, 300), min_size=1, max_size=20),
    views=st.sets(st.builds(View, st.booleans(), st.integers(0, 4)), min_size=1, max_size=6).map(sorted),
    order=st.randoms(use_true_random=False),
)
def test_keys_are_in_their_place_whatever_order_the_pictures_came_in(numbers, views, order):
    images = [f"{number:064x}" for number in numbers]
    order.shuffle(images)
    keys = CacheKeys(images, views)
    listed = [ViewOfImage(image, view) for view in views for image in sorted(images)]
    assert list(keys) == keys[:] == listed
    assert len(keys) == len(listed)
    assert keys[1::2] == listed[1::2]
    assert keys[-3:] == listed[-3:]
    assert [keys.place(key.image, key.view) for key in listed] == list(range(len(listed)))
    for image in (f"{999:064x}", "", "g"):
        assert keys.place(image, views[0]) is None
    assert keys.place(images[0], View(False, 5)) is None
    with pytest.raises(IndexError):
        keys[len(listed)]


def test_keys_take_no_memory_a_view():
    views = plan_views(100, 0.2).all_views()
    assert len(pickle.dumps(CacheKeys(IMAGES, views))) < len(pickle.dumps(CacheKeys(IMAGES, views)[:])) / 2


def test_same_bytes_wherever_and_in_whatever_order_it_is_written(tmp_path):
    fill(tmp_path / "a")
    fill(tmp_path / "b")
    (tmp_path / "b" / "shard-00001.arrow").unlink()
    fill(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert len(names) == 9
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert CacheKeys(IMAGES[::-1], plan_views(7, 0.15, 2, 1).all_views())[:] == KEYS[:]


def test_a_finished_cache_asks_the_teacher_nothing(folder):
    told, made, asked = fill(folder)
    assert told == "resumed"
    assert made == [(4, False), (4, False), (4, False), (3, False)]
    assert asked == []


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


@pytest.mark.parametrize("field", FOREIGN)
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
    harm(folder / "shard-00002.arrow")
    with pytest.raises(CacheError, match=rf"shard-00002.arrow: .*{message}.*makes only this shard again"):
        TeacherCache(folder, HEADER, KEYS)
    _, made, asked = fill(folder)
    assert asked == KEYS[8:12]
    assert [fresh for _, fresh in made] == [False, False, True, False]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_a_missing_shard_makes_the_cache_incomplete(folder):
    (folder / "shard-00003.arrow").unlink()
    (folder / "shard-00003.json").unlink()
    with pytest.raises(CacheError, match=r"holds 12 of 15 views; run `dvc repro cache_logits` to finish it"):
        TeacherCache(folder, HEADER, KEYS)


def test_no_cache_and_an_unknown_view_are_told(folder, tmp_path):
    with pytest.raises(CacheError, match=r"nowhere: no teacher cache; run `dvc repro cache_logits`"):
        TeacherCache(tmp_path / "nowhere", HEADER, KEYS)
    with pytest.raises(CacheError, match="no answer for picture ffffffffffff"):
        TeacherCache(folder, HEADER, KEYS).record("f" * 64, KEYS[0].view)


@pytest.mark.parametrize("sizes", [(4, 10), (10, 5)])  # of tens, the last shard is as long as every one of fives
def test_other_sizes_of_shards_leave_nothing_stale(tmp_path, sizes):
    open_for_writing(tmp_path, HEADER)
    for size in sizes:
        write_shards(tmp_path, HEADER, KEYS, size, Answers(), lambda count, fresh: None)
    count = -(-len(KEYS) // sizes[-1])
    assert sorted(path.name for path in tmp_path.glob("*.arrow")) == [f"shard-{i:05d}.arrow" for i in range(count)]
    assert len(list(tmp_path.glob("shard-*.json"))) == count
    cache = TeacherCache(tmp_path, HEADER, KEYS)
    assert all(cache.record(key.image, key.view).pixel_hash == view_of(key).record.pixel_hash for key in KEYS)


def test_shards_that_changed_places_are_told(tmp_path):
    """Each holds the same pictures in the same rows, of another view."""
    open_for_writing(tmp_path, HEADER)
    write_shards(tmp_path, HEADER, KEYS, len(IMAGES), Answers(), lambda count, fresh: None)
    for ending in ("arrow", "json"):
        first, second = (tmp_path / f"shard-0000{number}.{ending}" for number in (0, 1))
        kept = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(kept)
    with pytest.raises(CacheError, match=r"shard-00000\.arrow: batch 0 holds another view than its place says"):
        TeacherCache(tmp_path, HEADER, KEYS).record(KEYS[0].image, KEYS[0].view)


def test_copies_of_a_picture_share_its_answers(folder):
    views = plan_views(7, 0.15, 2, 1).all_views()
    copies = CacheKeys([*IMAGES, IMAGES[2], IMAGES[0]], views)
    assert copies[:] == KEYS[:]
    key = KEYS[7]
    record = TeacherCache(folder, HEADER, copies).record(key.image, key.view)
    assert record.pixel_hash == view_of(key).record.pixel_hash


def hashes_in_a_worker(cache):
    return [cache.record(key.image, key.view).pixel_hash for key in KEYS]


def test_a_worker_process_maps_the_cache_itself(folder):
    cache = TeacherCache(folder, HEADER, KEYS)
    assert len(pickle.dumps(cache)) < 4096, "the answers themselves are not sent"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(hashes_in_a_worker, cache).result() == hashes_in_a_worker(cache)


SLOW_WRITER = """
import sys, time
sys.path[:0] = [{tests!r}, {adapters!r}]
from pathlib import Path
import test_teacher_cache as t

def slow(keys):
    for key in keys:
        time.sleep(0.05)
        yield t.view_of(key)

t.open_for_writing(Path(sys.argv[1]), t.HEADER)
t.write_shards(Path(sys.argv[1]), t.HEADER, t.KEYS, t.SHARD_VIEWS, slow, lambda *_: None)
"""


def test_a_kill_loses_only_the_shard_in_the_making(tmp_path):
    folder = tmp_path / "cache"
    code = SLOW_WRITER.format(tests=str(REPOSITORY / "tests"), adapters=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment) as process:
        while not (folder / "shard-00001.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "shard-00003.arrow").exists(), "killed before the end"
    with pytest.raises(CacheError):
        TeacherCache(folder, HEADER, KEYS)
    kept = (folder / "shard-00000.arrow").stat().st_mtime_ns
    told, made, asked = fill(folder)
    assert told == "resumed"
    assert (folder / "shard-00000.arrow").stat().st_mtime_ns == kept
    assert [fresh for _, fresh in made[:2]] == [False, False]
    assert asked == KEYS[-len(asked) :]
    fill(tmp_path / "undisturbed")
    for path in (tmp_path / "undisturbed").iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 60 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this user may not mount a small file system: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_loses_nothing_finished(small_disk):
    folder, ballast = small_disk / "cache", small_disk / "ballast"
    ballast.write_bytes(b"x" * 24_000)
    script = (
        "import sys\n"
        f"sys.path[:0] = [{str(REPOSITORY / 'tests')!r}, {str(Path(__file__).parent)!r}]\n"
        "from pathlib import Path\n"
        "import test_teacher_cache as t\n"
        "from kd_steps.stage_entry import run_stage\n"
        "run_stage(lambda: t.fill(Path(sys.argv[1])) and None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
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
    assert 0 < len(finished) < 4
    assert not list(folder.glob(".*")), "half-written files are cleared away"
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=400k", str(small_disk)], check=True)
    told, made, asked = fill(folder)
    assert told == "resumed"
    assert [fresh for _, fresh in made] == [False] * len(finished) + [True] * (4 - len(finished))
    assert asked == KEYS[4 * len(finished) :]
    assert len(TeacherCache(folder, HEADER, KEYS)) == 15


def test_the_header_can_be_read_by_a_person(folder):
    assert json.loads((folder / "header.json").read_text()) == HEADER.to_dict()
