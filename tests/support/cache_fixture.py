"""A teacher cache's header and made-up answers that fit it, for tests of what packs, stores and reads them."""

from dataclasses import replace

import numpy as np

from kd_steps.core.cache.header import CacheHeader
from kd_steps.core.cache.rows import AnsweredView
from kd_steps.core.detect.answers import Answer, score_ceiling
from kd_steps.core.detect.neck import NeckAnswer, by_level
from kd_steps.core.detect.teacher_targets import TeacherTargets

HALF = 2**-11  # of a value: rounding to half precision
VECTOR_STEP = 0.501 / 127  # of a vector's largest channel: rounding to a signed byte
FULL = CacheHeader(
    teacher_sha256="t" * 64,
    contract_digest="c" * 64,
    augmentation_digest="a" * 64,
    dataset_digest="d" * 64,
    imgsz_px=32,
    seed=0,
    views=2,
    closing_views=1,
    classes=("bridge", "missing", "shifted"),
    bins=16,
    two_branches=False,
    cells=(64, 16, 4),
    neck_channels=(5, 7, 3),
    score_threshold=0.01,
    max_anchors=300,
    attention=True,
    pooled=True,
    max_vectors=6,
    pixels=True,
    library_versions={"torch": "2.0", "numpy": "2.0"},
    recipe={"views": 1, "answers": 1},
)
BARE = replace(FULL, attention=False, pooled=False, max_vectors=0, pixels=False)


def made_up_answer(random, header, count):
    """A head's answer of ``count`` anchors."""
    logits = (random.standard_normal((count, len(header.classes))) * 4).astype(np.float32)
    return Answer(
        anchors=np.sort(random.permutation(sum(header.cells))[:count]).astype(np.int32),
        class_logits=logits,
        box_bins=(random.standard_normal((count, 4, header.bins)) * 3).astype(np.float32),
        ceiling=score_ceiling(logits, header.score_threshold, header.max_anchors),
    )


def made_up_view(random, header, count):
    """An answered view as a teacher with this header would give it."""
    many = made_up_answer(random, header, count)
    rows = np.sort(random.permutation(count)[: header.max_vectors]).astype(np.int32)
    inside = by_level(many.anchors[rows], header.cells)
    vectors = [
        random.standard_normal((len(cells), channels)).astype(np.float32)
        for cells, channels in zip(inside, header.neck_channels, strict=True)
    ]
    neck = NeckAnswer(
        attention=random.random(sum(header.cells) if header.attention else 0).astype(np.float32),
        pooled=random.standard_normal(sum(header.neck_channels) if header.pooled else 0).astype(np.float32),
        rows=rows,
        vectors=tuple(vectors) if header.max_vectors else (),
    )
    one = made_up_answer(random, header, max(count - 2, 0)) if header.two_branches else None
    targets = TeacherTargets(int(random.integers(0, 2**64, dtype=np.uint64)), many, one, neck, header.cells)
    pixels = random.integers(0, 256, (3, header.imgsz_px, header.imgsz_px)).astype(np.uint8)
    return AnsweredView(targets, pixels, random.random((int(random.integers(0, 4)), 5)).astype(np.float32))


def require_same_targets(got, put):
    """Check that stored targets are what was put in, as exactly as its columns say."""
    assert (got.pixel_hash, got.cells) == (put.pixel_hash, put.cells)
    require_same_answer(got.one_to_many, put.one_to_many)
    assert (got.one_to_one is None) is (put.one_to_one is None)
    if put.one_to_one is not None:
        require_same_answer(got.one_to_one, put.one_to_one)
    assert got.neck.attention.shape == put.neck.attention.shape
    assert np.allclose(got.neck.attention, put.neck.attention, rtol=0, atol=0.51 / 255)
    require_close(got.neck.pooled, put.neck.pooled)
    assert got.neck.rows.tolist() == put.neck.rows.tolist()
    for found, expected in zip(got.neck.vectors, put.neck.vectors, strict=True):
        assert found.shape == expected.shape
        assert (np.abs(found - expected) <= VECTOR_STEP * np.abs(expected).max(axis=1, keepdims=True)).all()


def require_same_answer(got, put):
    """Check a head's answer; bins are compared by the side that they decode to, and by most of their logits."""
    assert got.anchors.tolist() == put.anchors.tolist()
    require_close(got.class_logits, put.class_logits)
    assert abs(got.ceiling - put.ceiling) < 1e-3
    assert got.box_bins.shape == put.box_bins.shape
    if put.box_bins.shape[-1] == 1:
        assert got.box_bins.tolist() == put.box_bins.tolist()
        return
    if len(put.box_bins):
        off_strides = np.abs(_decoded(got.box_bins) - _decoded(put.box_bins))
        assert off_strides.max() < 5e-4
        relative = put.box_bins - put.box_bins.max(axis=-1, keepdims=True)
        assert np.median(np.abs(got.box_bins - np.maximum(relative, -14))) < 0.1


def _decoded(bins):
    """Sides in strides."""
    powers = np.exp(bins.astype(np.float64) - bins.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)) @ np.arange(bins.shape[-1])


def require_close(got, put):
    """Check an array that went through half precision."""
    assert got.shape == put.shape
    assert np.allclose(got, put, rtol=HALF, atol=1e-7)
