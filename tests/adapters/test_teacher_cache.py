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

from kd_steps.adapters.teacher_cache import (
    INT8_STEP,
    CacheError,
    TeacherCache,
    cache_keys,
    open_for_writing,
    pack_bins,
    unpack_bins,
    write_shards,
)
from kd_steps.core.cache_header import CacheHeader
from kd_steps.core.teacher_records import TeacherRecord
from kd_steps.core.views import plan_views

REPOSITORY = Path(__file__).parents[2]
HEADER = CacheHeader(
    teacher_sha256="t" * 64,
    contract_digest="c" * 64,
    augmentation_digest="a" * 64,
    dataset_digest="d" * 64,
    seed=0,
    views=2,
    closing_views=1,
    classes=("bridge", "missing", "shifted"),
    bins=16,
    box_bins="float16",
    score_threshold=0.01,
    max_anchors=300,
    precision="fp32",
    library_versions={"torch": "2.0", "numpy": "2.0"},
)
IMAGES = [hashlib.sha256(bytes([i])).hexdigest() for i in range(5)]
KEYS = cache_keys(IMAGES, plan_views(7, 0.15, 2, 1).all_views())  # 15 views; shards of 4 make 4 files
SHARD_VIEWS = 4


def softmax(values):
    powers = np.exp(values.astype(np.float64) - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def record_of(key, bins=16, anchors=40):
    """A made-up answer that depends on nothing but its key; now and then one without any anchor."""
    words = f"{key.image}{key.view}".encode()
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(words).digest()[:8], "little"))
    count = 0 if random.random() < 0.2 else anchors
    return TeacherRecord(
        pixel_hash=int(random.integers(0, 2**64, dtype=np.uint64)),
        anchors=np.sort(random.permutation(8400)[:count]).astype(np.int32),
        class_logits=(random.standard_normal((count, 3)) * 4).astype(np.float32),
        box_bins=(random.standard_normal((count, 4, bins)) * 3).astype(np.float32),
    )


class Answers:
    """Answers keys, and remembers which it was asked for."""

    def __init__(self, bins=16):
        self.asked, self.bins = [], bins

    def __call__(self, keys):
        for key in keys:
            self.asked.append(key)
            yield record_of(key, self.bins)


def fill(folder, header=HEADER, answers=None):
    answers = answers or Answers(header.bins)
    told = open_for_writing(folder, header)
    made = []
    write_shards(folder, header, KEYS, SHARD_VIEWS, answers, lambda count, fresh: made.append((count, fresh)))
    return told, made, answers.asked


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize(("bins", "kind"), [(16, "float16"), (16, "int8"), (1, "float16"), (1, "int8")])
def test_round_trip(tmp_path, bins, kind):
    header = replace(HEADER, bins=bins, box_bins=kind)
    fill(tmp_path, header)
    cache = TeacherCache(tmp_path, header, len(KEYS))
    for key in KEYS:
        put, got = record_of(key, bins), cache.record(key.image, key.view)
        assert got.pixel_hash == put.pixel_hash
        assert got.anchors.tolist() == put.anchors.tolist()
        assert np.allclose(got.class_logits, put.class_logits, rtol=2**-11)
        if bins == 1:
            assert np.allclose(got.box_bins, put.box_bins, rtol=2**-11)
        elif len(put.anchors):
            # A logit that is off by d at most changes a probability by a factor of exp(2 d) at most.
            off = INT8_STEP / 2 if kind == "int8" else 16 * 2**-11
            assert np.abs(softmax(got.box_bins) - softmax(put.box_bins)).max() <= np.expm1(2 * off)
    assert any(len(record_of(key).anchors) == 0 for key in KEYS), "an answer without anchors is among them"
    assert cache.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.arrow"))


def test_int8_bins_far_below_the_largest_stay_negligible():
    header = replace(HEADER, box_bins="int8")
    bins = np.full((1, 4, 16), -40.0, np.float32)
    bins[..., 3] = 30.0
    back = unpack_bins(pack_bins(bins, header), header).reshape(1, 4, 16)
    assert np.abs(softmax(back) - softmax(bins)).max() < 3e-6


def test_same_bytes_wherever_and_in_whatever_order_it_is_written(tmp_path):
    fill(tmp_path / "a")
    fill(tmp_path / "b")
    (tmp_path / "b" / "shard-00001.arrow").unlink()
    fill(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert len(names) == 9
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert cache_keys(IMAGES[::-1], plan_views(7, 0.15, 2, 1).all_views()) == KEYS


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
}


@pytest.mark.parametrize("field", FOREIGN)
def test_a_cache_made_from_something_else_is_refused_by_name(folder, field):
    expected = replace(HEADER, **{field: FOREIGN[field]})
    with pytest.raises(CacheError, match=rf"something else \({field}: .*; run `dvc repro cache_logits`"):
        TeacherCache(folder, expected, len(KEYS))


@pytest.mark.parametrize("field", FOREIGN)
def test_writing_over_a_cache_made_from_something_else_keeps_none_of_it(folder, field):
    expected = replace(HEADER, **{field: FOREIGN[field]})
    told, made, asked = fill(folder, expected)
    assert told.startswith("another cache stood here (" + field)
    assert asked == KEYS
    assert all(fresh for _, fresh in made)
    assert len(TeacherCache(folder, expected, len(KEYS))) == 15


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
        TeacherCache(folder, HEADER, len(KEYS))
    _, made, asked = fill(folder)
    assert asked == KEYS[8:12]
    assert [fresh for _, fresh in made] == [False, False, True, False]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_a_missing_shard_makes_the_cache_incomplete(folder):
    (folder / "shard-00003.arrow").unlink()
    (folder / "shard-00003.json").unlink()
    with pytest.raises(CacheError, match=r"holds 12 of 15 views; run `dvc repro cache_logits` to finish it"):
        TeacherCache(folder, HEADER, len(KEYS))


def test_no_cache_and_an_unknown_view_are_told(folder, tmp_path):
    with pytest.raises(CacheError, match=r"nowhere: no teacher cache; run `dvc repro cache_logits`"):
        TeacherCache(tmp_path / "nowhere", HEADER, 15)
    with pytest.raises(CacheError, match="no answer for picture ffffffffffff"):
        TeacherCache(folder, HEADER, 15).record("f" * 64, KEYS[0].view)


def test_other_sizes_of_shards_leave_nothing_stale(folder):
    write_shards(folder, HEADER, KEYS, 10, Answers(), lambda count, fresh: None)
    assert sorted(path.name for path in folder.glob("*.arrow")) == ["shard-00000.arrow", "shard-00001.arrow"]
    assert len(list(folder.glob("shard-*.json"))) == 2
    cache = TeacherCache(folder, HEADER, len(KEYS))
    assert all(cache.record(key.image, key.view).pixel_hash == record_of(key).pixel_hash for key in KEYS)


def hashes_in_a_worker(cache):
    return [cache.record(key.image, key.view).pixel_hash for key in KEYS]


def test_a_worker_process_maps_the_cache_itself(folder):
    cache = TeacherCache(folder, HEADER, len(KEYS))
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
        yield t.record_of(key)

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
        TeacherCache(folder, HEADER, len(KEYS))
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
    assert len(TeacherCache(folder, HEADER, len(KEYS))) == 15


def test_the_header_can_be_read_by_a_person(folder):
    assert json.loads((folder / "header.json").read_text()) == HEADER.to_dict()
