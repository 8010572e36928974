"""A small teacher cache on disk, written from made-up answers."""

import hashlib

import numpy as np
from cache_fixture import FULL, made_up_view

from kd_steps.adapters.cache.folder import open_for_writing
from kd_steps.adapters.cache.store import write_shards
from kd_steps.core.cache.keys import CacheKeys
from kd_steps.core.detect.views import plan_views

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


def fill(folder, header=HEADER, answers=None, precision="fp32"):
    answers = answers or Answers(header)
    told = open_for_writing(folder, header)
    made = []
    write_shards(
        folder, header, KEYS, SHARD_VIEWS, precision, answers, lambda count, fresh: made.append((count, fresh))
    )
    return told, made, answers.asked


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
