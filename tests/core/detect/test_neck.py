"""What a neck shows of a view, against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.core.detect.answers import Answer, sparse_answers
from kd_steps.core.detect.neck import (
    batch_necks,
    by_level,
    neck_answers,
    pooled_channels,
    spatial_attention,
    vectors_at,
)

SHAPES = ((5, 4, 4), (7, 2, 2), (3, 1, 1))  # channels, height, width of a level
CELLS = [height * width for _, height, width in SHAPES]
ANCHORS = sum(CELLS)


def features(seed, batch=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, *shape, generator=generator) for shape in SHAPES]


def answers(seed, batch=3, threshold=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 2, ANCHORS, generator=generator) * 2
    return sparse_answers(logits, torch.randn(batch, 16, ANCHORS, generator=generator), threshold, 300)


def cell_of(anchor):
    """Level, row and column of an anchor, by counting."""
    for level, (_, height, width) in enumerate(SHAPES):
        for y in range(height):
            for x in range(width):
                if anchor == 0:
                    return level, y, x
                anchor -= 1
    raise AssertionError("no such anchor")


def shown(seed=1, attention=True, pooled=True, max_vectors=4, **options):
    maps, said = features(seed), answers(seed + 1, **options)
    return maps, said, neck_answers(maps, said, attention, pooled, max_vectors)


def test_attention_is_the_mean_square_as_a_share_of_its_levels_largest():
    maps, _, found = shown()
    for sample, neck in enumerate(found):
        expected = []
        for channels, height, width in SHAPES:
            level = maps[len([s for s in SHAPES if s[1] > height])][sample].double()
            cells = [
                sum(float(level[c, y, x]) ** 2 for c in range(channels)) / channels
                for y in range(height)
                for x in range(width)
            ]
            expected += [cell / max(cells) for cell in cells]
        assert neck.attention == pytest.approx(expected, rel=1e-5)
        assert [part.max() for part in np.split(neck.attention, np.cumsum(CELLS)[:-1])] == [1, 1, 1]


def test_a_level_that_is_silent_everywhere_has_an_empty_map():
    maps, said = features(1), answers(2)
    maps[1].zero_()
    (first, *_) = neck_answers(maps, said, True, False, 0)
    assert np.isfinite(first.attention).all()
    assert first.attention[CELLS[0] : CELLS[0] + CELLS[1]].tolist() == [0] * CELLS[1]


def test_pooled_is_the_mean_of_each_channel():
    maps, _, found = shown()
    for sample, neck in enumerate(found):
        expected = [float(level[sample, c].double().mean()) for level in maps for c in range(level.shape[1])]
        assert neck.pooled == pytest.approx(expected, abs=1e-6)


def test_vectors_are_those_of_the_best_anchors():
    maps, said, found = shown(max_vectors=4)
    for sample, (answer, neck) in enumerate(zip(said, found, strict=True)):
        scores = answer.class_logits.max(axis=1)
        assert len(neck.rows) == 4 < len(scores)
        assert neck.rows.tolist() == sorted(np.argsort(-scores)[:4].tolist())
        rows = [[], [], []]
        for anchor in answer.anchors[neck.rows]:
            level, y, x = cell_of(int(anchor))
            rows[level].append(maps[level][sample, :, y, x].tolist())
        for level, vectors in enumerate(neck.vectors):
            assert vectors.shape == (len(rows[level]), SHAPES[level][0])
            assert vectors.tolist() == rows[level]


def test_what_is_not_asked_for_is_empty():
    _, said, found = shown(attention=False, pooled=False, max_vectors=0)
    for neck in found:
        assert (neck.attention.shape, neck.pooled.shape, neck.rows.shape, neck.vectors) == ((0,), (0,), (0,), ())
    batch = batch_necks(found, said, CELLS)
    assert (batch.attention.shape, batch.pooled.shape, batch.vectors) == ((3, 0), (3, 0), ())


def test_a_view_without_any_anchor_has_no_vectors():
    _, said, found = shown(threshold=0.9999)
    assert [len(answer.anchors) for answer in said] == [0, 0, 0]
    for neck in found:
        assert len(neck.rows) == 0
        assert [vectors.shape for vectors in neck.vectors] == [(0, 5), (0, 7), (0, 3)]
    batch = batch_necks(found, said, CELLS)
    assert [level.values.shape for level in batch.vectors] == [(0, 5), (0, 7), (0, 3)]
    assert all(len(level.sample) == len(level.cell) == len(level.score) == 0 for level in batch.vectors)


@settings(deadline=None, max_examples=60)
@given(
    kept=st.sets(st.integers(0, ANCHORS - 1)),
    cells=st.permutations(CELLS),
)
def test_by_level_loses_no_anchor(kept, cells):
    anchors = np.array(sorted(kept), np.int32)
    parts = by_level(anchors, cells)
    starts = np.cumsum([0, *cells[:-1]])
    assert len(parts) == len(cells)
    assert all(((part >= 0) & (part < count)).all() for part, count in zip(parts, cells, strict=True))
    together = np.concatenate([part + start for part, start in zip(parts, starts, strict=True)])
    assert together.tolist() == anchors.tolist()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), most=st.integers(1, ANCHORS), threshold=st.floats(0.05, 0.999))
def test_a_batch_finds_every_vector_where_it_came_from(seed, most, threshold):
    maps, said, found = shown(seed, max_vectors=most, threshold=threshold)
    batch = batch_necks(found, said, CELLS)
    assert sum(len(level.sample) for level in batch.vectors) == sum(len(neck.rows) for neck in found)
    met = set()
    for number, (level, vectors) in enumerate(zip(maps, batch.vectors, strict=True)):
        assert torch.equal(vectors_at(level, vectors), vectors.values), "the teacher's own maps give its vectors"
        for sample, cell, score in zip(vectors.sample, vectors.cell, vectors.score, strict=True):
            anchor = int(cell) + sum(CELLS[:number])
            (row,) = np.nonzero(said[sample].anchors == anchor)[0]
            logit = float(said[sample].class_logits[row].max())
            assert float(score) == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)
            met.add((int(sample), anchor))
    assert met == {
        (sample, int(anchor))
        for sample, (neck, answer) in enumerate(zip(found, said, strict=True))
        for anchor in answer.anchors[neck.rows]
    }


def test_a_batch_keeps_the_order_of_its_views():
    _, said, found = shown()
    forward, backward = batch_necks(found, said, CELLS), batch_necks(found[::-1], said[::-1], CELLS)
    assert torch.equal(forward.attention, backward.attention.flip(0))
    assert torch.equal(forward.pooled, backward.pooled.flip(0))
    for ahead, back in zip(forward.vectors, backward.vectors, strict=True):
        assert torch.equal(ahead.values[ahead.sample == 0], back.values[back.sample == 2])
        assert torch.equal(ahead.cell[ahead.sample == 0], back.cell[back.sample == 2])


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_scores_far_out_stay_finite(logit):
    said = [Answer(np.array([2]), np.full((1, 2), logit, np.float32), np.zeros((1, 4, 4), np.float32), ceiling=0.0)]
    batch = batch_necks(neck_answers(features(1, batch=1), said, False, False, 4), said, CELLS)
    assert batch.vectors[0].score.tolist() == [float(logit > 0)]


def test_a_teacher_in_half_precision_gives_fp32():
    maps = [level.bfloat16() for level in features(1)]
    (first, *_) = neck_answers(maps, answers(2), True, True, 4)
    assert first.attention.dtype == first.pooled.dtype == first.vectors[0].dtype == np.float32
    exact = [level.float() for level in maps]
    assert torch.equal(spatial_attention(maps[0]), spatial_attention(exact[0]))
    assert torch.equal(pooled_channels(maps), pooled_channels(exact))


def test_on_another_device_everything_is_there():
    _, said, found = shown()
    batch = batch_necks(found, said, CELLS)
    moved = batch.to(torch.device("meta"))
    assert moved.attention.device.type == moved.pooled.device.type == "meta"
    for level, there in zip(batch.vectors, moved.vectors, strict=True):
        for name in ("sample", "cell", "values", "score"):
            assert getattr(there, name).device.type == "meta"
            assert getattr(there, name).shape == getattr(level, name).shape


def test_gradients_of_the_students_vectors_reach_their_cells_only():
    _, said, found = shown(max_vectors=2)
    level = batch_necks(found, said, CELLS).vectors[0]
    student = features(9)[0].requires_grad_()
    vectors_at(student, level).sum().backward()
    touched = torch.zeros(3, CELLS[0])
    touched[level.sample, level.cell] = 1
    assert torch.equal(student.grad.flatten(2), touched[:, None].expand(-1, 5, -1))
