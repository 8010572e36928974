"""The teacher cache on disk: exact enough, and the same bytes however it is written."""

import json
import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from cache_fixture import require_same_targets
from cache_writer import HEADER, IMAGES, KEYS, SHARD_VIEWS, Answers, fill, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.adapters.cache.folder import CacheError, open_for_writing
from kd_steps.adapters.cache.shards import BATCH_ROWS, ShardPlace, write_shard
from kd_steps.adapters.cache.store import TeacherCache, write_shards
from kd_steps.adapters.files import write_json
from kd_steps.core.cache.keys import CacheKeys, ViewOfImage
from kd_steps.core.detect.views import View, plan_views


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
        require_same_targets(cache.targets(key.image, key.view), put.targets)
        kept = cache.sample(key.image, key.view)
        assert (kept is None) is (not header.pixels)
        if kept is not None:
            assert np.array_equal(kept[0], put.pixels)
            assert np.array_equal(kept[1], put.labels)
            kept[0][:] = 0  # the caller's own
            assert np.array_equal(cache.sample(key.image, key.view)[0], put.pixels)
    assert any(len(view_of(key, header).targets.one_to_many.anchors) == 0 for key in KEYS), (
        "one without anchors is among them"
    )
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
    (tmp_path / "b" / "shard-mosaic-000-001.arrow").unlink()
    fill(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert len(names) == 13
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert CacheKeys(IMAGES[::-1], plan_views(7, 0.15, 2, 1).all_views())[:] == KEYS[:]


def test_a_finished_cache_asks_the_teacher_nothing(folder):
    told, made, asked = fill(folder)
    assert told == "resumed"
    assert made == [(4, False), (1, False)] * 3
    assert asked == []


# sha256 of what an answer depended on, as the last commit before recipe numbers reckoned it from the header below.
BEFORE_RECIPES = "a69b56e0a884bc7fa1c413b3f31fd83dc4a7ca5dc53252d57626f439240d7794"


@pytest.fixture
def before_recipes(tmp_path):
    """A cache as that commit left it: a layout for the recipe, versions with their builds, no digest in the header."""
    folder, header = tmp_path / "before", {**HEADER.to_dict(), "layout": 6}
    del header["recipe"]
    header["library_versions"] = {"torch": "2.0+cpu", "numpy": "2.0"}
    write_json(folder / "header.json", header)
    start = 0
    for name, first, count in KEYS.shards(SHARD_VIEWS):
        part, place = KEYS[start : start + count], ShardPlace(name, first, count, BEFORE_RECIPES, "fp32")
        write_shard(folder / f"{name}.arrow", place, HEADER, zip(part, Answers()(part), strict=True))
        start += count
    return folder


def test_a_cache_of_before_recipe_numbers_is_taken_over(before_recipes):
    shards = {path.name: path.read_bytes() for path in before_recipes.glob("shard-*")}
    TeacherCache(before_recipes, HEADER, KEYS)
    assert fill(before_recipes) == ("resumed", [(4, False), (1, False)] * 3, [])
    assert {path.name: path.read_bytes() for path in before_recipes.glob("shard-*")} == shards
    written = json.loads((before_recipes / "header.json").read_text())
    assert written == {"schema": 1, **HEADER.to_dict(), "answers_digest": BEFORE_RECIPES}
    cache = TeacherCache(before_recipes, HEADER, KEYS)
    assert all(cache.targets(key.image, key.view).pixel_hash == view_of(key).targets.pixel_hash for key in KEYS)
    assert fill(before_recipes)[2] == []


def test_one_whose_class_is_called_otherwise_is_refused_and_made_anew(before_recipes):
    renamed = replace(HEADER, classes=("solder bridge", *HEADER.classes[1:]))
    with pytest.raises(CacheError, match=r"something else \(classes: \['solder bridge', .* against \['bridge', "):
        TeacherCache(before_recipes, renamed, KEYS)
    told, _, asked = fill(before_recipes, renamed)
    assert told.startswith("another cache stood here (classes: ['solder bridge'")
    assert asked == list(KEYS)


def test_one_whose_teacher_alone_was_renamed_is_kept(before_recipes):
    renamed = replace(HEADER, classes=HEADER.classes[::-1], teacher_sha256="n" * 64)
    assert open_for_writing(before_recipes, renamed, [HEADER.teacher_sha256]) == "resumed"
    assert len(TeacherCache(before_recipes, renamed, KEYS)) == len(KEYS)
    assert fill(before_recipes, renamed)[2] == []


@pytest.mark.parametrize("sizes", [(2, 4), (4, 2), (3, 2)])  # the second of threes is as long as the second of twos
def test_other_sizes_of_shards_leave_nothing_stale(tmp_path, sizes):
    open_for_writing(tmp_path, HEADER)
    for size in sizes:
        write_shards(tmp_path, HEADER, KEYS, size, "fp32", Answers(), lambda count, fresh: None)
    planned = {name for name, _, _ in KEYS.shards(sizes[-1])}
    assert {path.stem for path in tmp_path.glob("*.arrow")} == planned
    assert {path.stem for path in tmp_path.glob("shard-*.sha256")} == planned
    cache = TeacherCache(tmp_path, HEADER, KEYS)
    assert all(cache.targets(key.image, key.view).pixel_hash == view_of(key).targets.pixel_hash for key in KEYS)


def test_more_shards_than_three_digits_tell_are_read_in_their_order(tmp_path):
    keys = CacheKeys([f"{number:064x}" for number in range(1002)], [View(False, 0)])
    header = replace(HEADER, attention=False, pooled=False, max_vectors=0, pixels=False)
    open_for_writing(tmp_path, header)
    write_shards(tmp_path, header, keys, 1, "fp32", Answers(header), lambda count, fresh: None)
    cache = TeacherCache(tmp_path, header, keys)
    for key in (*keys[99:103], *keys[-3:]):
        assert cache.targets(key.image, key.view).pixel_hash == view_of(key, header).targets.pixel_hash


def test_writing_takes_no_more_memory_for_a_larger_shard(tmp_path):
    """As Python counts it: rows and answers are its objects; Arrow has one batch of them."""

    def peak_bytes(rows):
        keys = CacheKeys([f"{number:064x}" for number in range(rows)], [View(False, 0)])
        open_for_writing(tmp_path / str(rows), HEADER)
        tracemalloc.start()
        write_shards(tmp_path / str(rows), HEADER, keys, rows, "fp32", Answers(), lambda count, fresh: None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(1)  # what is loaded at first use
    assert peak_bytes(8 * BATCH_ROWS) < peak_bytes(BATCH_ROWS) + BATCH_ROWS * HEADER.pixel_bytes


@pytest.mark.parametrize(("views", "closing_views", "new"), [(3, 2, 10), (1, 1, 0), (2, 0, 0), (1, 3, 10)])
def test_another_schedule_asks_only_for_the_views_that_are_new(folder, tmp_path, views, closing_views, new):
    """What lies there then is what it had been written to from the start."""
    header = replace(HEADER, views=views, closing_views=closing_views)
    all_views = [*(View(False, n) for n in range(views)), *(View(True, n) for n in range(closing_views))]
    keys, answers = CacheKeys(IMAGES, all_views), Answers(header)
    with pytest.raises(CacheError, match=r"something else \((closing_)?views: "):
        TeacherCache(folder, header, keys)
    assert open_for_writing(folder, header) == "resumed"
    write_shards(folder, header, keys, SHARD_VIEWS, "fp32", answers, lambda count, fresh: None)
    assert len(answers.asked) == new
    assert not set(answers.asked) & set(KEYS)
    open_for_writing(tmp_path / "fresh", header)
    write_shards(tmp_path / "fresh", header, keys, SHARD_VIEWS, "fp32", Answers(header), lambda count, fresh: None)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "fresh").iterdir()
    }
    cache = TeacherCache(folder, header, keys)
    assert all(cache.targets(key.image, key.view).pixel_hash == view_of(key).targets.pixel_hash for key in keys)


def test_answers_of_another_number_format_are_kept(folder):
    """As when the cache of a machine with a GPU lies on one without, and its training gets more epochs."""
    before = {path.name: path.read_bytes() for path in folder.glob("*.arrow")}
    (folder / "shard-mosaic-001-000.sha256").unlink()
    told, _, asked = fill(folder, precision="bf16")
    assert (told, asked) == ("resumed", KEYS[5:9])
    assert {path.name for path in folder.glob("*.arrow") if path.read_bytes() != before[path.name]} == {
        "shard-mosaic-001-000.arrow"
    }
    cache = TeacherCache(folder, HEADER, KEYS)
    assert cache.views_by_precision == {"fp32": 11, "bf16": 4}
    assert [cache.precision(place) for place in range(15)] == ["fp32"] * 5 + ["bf16"] * 4 + ["fp32"] * 6


def test_copies_of_a_picture_share_its_answers(folder):
    views = plan_views(7, 0.15, 2, 1).all_views()
    copies = CacheKeys([*IMAGES, IMAGES[2], IMAGES[0]], views)
    assert copies[:] == KEYS[:]
    key = KEYS[7]
    targets = TeacherCache(folder, HEADER, copies).targets(key.image, key.view)
    assert targets.pixel_hash == view_of(key).targets.pixel_hash


def hashes_in_a_worker(cache):
    return [cache.targets(key.image, key.view).pixel_hash for key in KEYS]


def test_a_worker_process_maps_the_cache_itself(folder):
    cache = TeacherCache(folder, HEADER, KEYS)
    assert len(pickle.dumps(cache)) < 4096, "the answers themselves are not sent"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(hashes_in_a_worker, cache).result() == hashes_in_a_worker(cache)


def test_the_header_can_be_read_by_a_person(folder):
    written = json.loads((folder / "header.json").read_text())
    assert written == {"schema": 1, **HEADER.to_dict(), "answers_digest": HEADER.answers_digest}
