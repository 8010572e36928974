"""A row of the cache: what is put in comes out, as exactly as its columns say."""

from dataclasses import replace

import numpy as np
from cache_fixture import BARE, FULL, made_up_view, require_same_targets
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.core.cache.rows import pack_row, unpack_sample, unpack_targets


def made_up(seed, header, count=9):
    return made_up_view(np.random.default_rng(seed), header, count)


def there_and_back(answered, header):
    row = pack_row(answered, header)
    return row, unpack_targets(row.__getitem__, header)


CONTENT = st.fixed_dictionaries(
    {
        "attention": st.booleans(),
        "pooled": st.booleans(),
        "max_vectors": st.sampled_from([0, 1, 6, 300]),
        "pixels": st.booleans(),
        "two_branches": st.booleans(),
        "bins": st.sampled_from([1, 16]),
        "max_anchors": st.sampled_from([84, 300]),
    }
)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), content=CONTENT, count=st.integers(0, 84))
def test_round_trip(seed, content, count):
    header = replace(FULL, **content)
    put = made_up(seed, header, count)
    row, got = there_and_back(put, header)
    require_same_targets(got, put.targets)
    if header.pixels:
        pixels, labels = unpack_sample(row.__getitem__, header)
        assert np.array_equal(pixels, put.pixels)
        assert np.array_equal(labels, put.labels)


def test_what_is_not_asked_for_takes_no_byte():
    row, got = there_and_back(made_up(1, BARE), BARE)
    kept = ("pixel_hash", "anchors", "class_logits", "box_bins")
    assert {name for name, value in row.items() if value != b""} == set(kept)
    assert (got.neck.attention.shape, got.neck.pooled.shape, got.neck.vectors) == ((0,), (0,), ())
    assert len(row["anchors"]) == 4 * 9
    assert len(row["class_logits"]) == 2 * 9 * 3


def test_a_view_without_any_anchor_is_still_a_view():
    header = replace(FULL, two_branches=True)
    row, got = there_and_back(made_up(2, header, count=0), header)
    assert row["anchors"] == row["class_logits"] == row["box_bins"] == row["vectors"] == b""
    assert (got.one_to_many.anchors.shape, got.one_to_many.class_logits.shape, got.one_to_many.box_bins.shape) == (
        (0,),
        (0, 3),
        (0, 4, 16),
    )
    assert [vectors.shape for vectors in got.neck.vectors] == [(0, 5), (0, 7), (0, 3)]
    assert got.neck.attention.shape == (84,)
    assert got.one_to_one is not None
    assert len(got.one_to_one.anchors) == 0


def test_a_view_without_objects_has_no_labels():
    put = replace(made_up(3, FULL), labels=np.zeros((0, 5), np.float32))
    row, _ = there_and_back(put, FULL)
    assert unpack_sample(row.__getitem__, FULL)[1].shape == (0, 5)


def test_columns_may_be_any_buffer():
    row = pack_row(made_up(4, FULL), FULL)
    views = {name: memoryview(value) if isinstance(value, bytes) else value for name, value in row.items()}
    got, expected = unpack_targets(views.__getitem__, FULL), unpack_targets(row.__getitem__, FULL)
    assert got.one_to_many.class_logits.tolist() == expected.one_to_many.class_logits.tolist()
    assert got.neck.pooled.tolist() == expected.neck.pooled.tolist()


def test_the_largest_and_the_least_attention_stay_what_they_are():
    put = made_up(5, FULL)
    neck = replace(put.targets.neck, attention=np.array([0.0, 1.0] * 42, np.float32))
    _, got = there_and_back(replace(put, targets=replace(put.targets, neck=neck)), FULL)
    assert got.neck.attention.tolist() == neck.attention.tolist()
