"""Which view of which picture stands where in the cache."""

import pytest

from kd_steps.core.cache.keys import CacheKeys, ViewOfImage
from kd_steps.core.detect.views import View

VIEWS = [View(closing=False, number=0), View(closing=False, number=1), View(closing=True, number=0)]
KEYS = CacheKeys(["c", "a", "b", "a"], VIEWS)


def test_every_key_is_in_its_place():
    every = list(KEYS)
    assert len(every) == len(KEYS) == 9
    assert [KEYS.place(key.image, key.view) for key in every] == list(range(9))
    assert every[:4] == [*(ViewOfImage(image, VIEWS[0]) for image in "abc"), ViewOfImage("a", VIEWS[1])]
    assert KEYS[2:5] == every[2:5]


def test_what_it_does_not_hold_has_no_place():
    assert KEYS.place("d", VIEWS[0]) is KEYS.place("A", VIEWS[0]) is None
    assert KEYS.place("a", View(closing=True, number=1)) is None
    for place in (9, -1):
        with pytest.raises(IndexError):
            KEYS[place]


@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_shards_hold_every_key_once_and_never_two_views(most):
    shards = list(KEYS.shards(most))
    assert len({name for name, _, _ in shards}) == len(shards)
    held = [(name.rpartition("-")[0], place) for name, first, count in shards for place in range(first, first + count)]
    views = ["shard-mosaic-000", "shard-mosaic-001", "shard-closing-000"]
    assert held == [(view, place) for view in views for place in range(3)]
    assert max(count for _, _, count in shards) == min(most, 3)
