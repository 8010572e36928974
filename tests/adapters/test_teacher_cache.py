"""The teacher cache on disk: exact enough, and the same bytes however it is written."""

import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from cache_fixture import require_same_record
from cache_writer import HEADER, IMAGES, KEYS, Answers, fill, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.adapters.teacher_cache import (
    CacheKeys,
    TeacherCache,
    ViewOfImage,
    open_for_writing,
    write_shards,
)
from kd_steps.core.views import View, plan_views


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


def test_the_header_can_be_read_by_a_person(folder):
    assert json.loads((folder / "header.json").read_text()) == HEADER.to_dict()
