"""Errors of stored answers: zero of equal ones, and the size of what was put in."""

from dataclasses import replace

import numpy as np
import pytest
from cache_fixture import FULL, made_up_view

from kd_steps.core.cache.answer_errors import AnswerErrors, largest, target_errors
from kd_steps.core.detect.answers import Answer
from kd_steps.core.detect.teacher_targets import TeacherTargets

HEADER = replace(FULL, two_branches=True)
ANCHORS = sum(HEADER.cells)
STRIDES_PX = np.repeat([4.0, 8.0, 16.0], HEADER.cells)  # 32 px wide, 8, 4 and 2 cells a row
THRESHOLD = 0.3


def probability(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def whole(seed=0):
    """An answer with every anchor in it."""
    return made_up_view(np.random.default_rng(seed), replace(HEADER, max_anchors=ANCHORS), ANCHORS).targets


def every(targets):
    """Both branches with all anchors: the made-up one-to-one branch has two fewer."""
    return replace(
        targets, one_to_one=replace(targets.one_to_many, class_logits=targets.one_to_many.class_logits - 0.5)
    )


def stored(targets, threshold=THRESHOLD, most=300):
    """What a cache would keep of it."""

    def cut(answer):
        scores = probability(answer.class_logits.max(axis=1))
        best = np.argsort(-scores, kind="stable")[:most]
        rows = np.sort(best[scores[best] > threshold])
        return Answer(answer.anchors[rows], answer.class_logits[rows], answer.box_bins[rows], threshold)

    many = cut(targets.one_to_many)
    places = np.searchsorted(many.anchors, targets.one_to_many.anchors[targets.neck.rows])
    there = [i for i, place in enumerate(places) if place < len(many.anchors)]
    there = [i for i in there if many.anchors[places[i]] == targets.one_to_many.anchors[targets.neck.rows[i]]]
    anchors = targets.one_to_many.anchors[targets.neck.rows][there]
    levels = np.searchsorted(np.cumsum(HEADER.cells), anchors, side="right")
    flat = [vector for level in targets.neck.vectors for vector in level]
    vectors = tuple(
        np.array([flat[i] for i, level in zip(there, levels, strict=True) if level == number]).reshape(-1, channels)
        for number, channels in enumerate(HEADER.neck_channels)
    )
    neck = replace(targets.neck, rows=places[there].astype(np.int32), vectors=vectors)
    return TeacherTargets(targets.pixel_hash, many, cut(targets.one_to_one), neck, targets.cells)


def errors(before, now, threshold=THRESHOLD, most=300):
    return target_errors(before, now, HEADER.imgsz_px, threshold, most)


def test_equal_answers_have_none():
    now = every(whole())
    found = errors(stored(now), now)
    assert found == AnswerErrors(anchors=len(stored(now).one_to_many.anchors) + len(stored(now).one_to_one.anchors))
    assert found.anchors > 40


@pytest.mark.parametrize("branch", ["one_to_many", "one_to_one"])
def test_a_moved_logit_is_told_as_a_probability(branch):
    now = every(whole())
    before = stored(now)
    answer = getattr(before, branch)
    logits = answer.class_logits.copy()
    logits[3, 1] += 0.25
    found = errors(replace(before, **{branch: replace(answer, class_logits=logits)}), now)
    expected = probability(logits[3, 1]) - probability(answer.class_logits[3, 1])
    assert found.class_probability == pytest.approx(expected)
    assert (found.box_side_px, found.kept_score) == (0, 0)


def test_a_moved_side_is_told_in_pixels_of_its_level():
    now = every(whole())
    before = stored(now)
    for row in (0, len(before.one_to_many.anchors) - 1):  # of the finest and of the coarsest level
        bins = before.one_to_many.box_bins.copy()
        bins[row, 2] = 0
        bins[row, 2, 5] = 100  # all of the side at five strides
        old = np.exp(before.one_to_many.box_bins[row, 2].astype(np.float64))
        moved_px = (5 - (old * np.arange(16)).sum() / old.sum()) * STRIDES_PX[before.one_to_many.anchors[row]]
        found = errors(replace(before, one_to_many=replace(before.one_to_many, box_bins=bins)), now)
        assert found.box_side_px == pytest.approx(abs(moved_px), rel=1e-5)
        assert found.class_probability == 0


def test_other_anchors_are_told_by_their_distance_from_the_cut():
    now = every(whole())
    before = stored(now)
    scores = probability(now.one_to_many.class_logits.max(axis=1))
    best = int(scores[before.one_to_many.anchors].argmax())
    left_out = Answer(
        *(
            np.delete(a, best, axis=0)
            for a in (before.one_to_many.anchors, before.one_to_many.class_logits, before.one_to_many.box_bins)
        ),
        THRESHOLD,
    )
    assert errors(replace(before, one_to_many=left_out), now).kept_score == pytest.approx(scores.max() - THRESHOLD)
    assert errors(stored(now, threshold=0.25), now).kept_score == pytest.approx(
        max(THRESHOLD - s for s in scores if 0.25 < s <= THRESHOLD), abs=0.06
    )


def test_of_the_best_few_the_last_kept_score_is_the_cut():
    now = every(whole())
    scores = np.sort(probability(now.one_to_many.class_logits.max(axis=1)))[::-1]
    others = np.sort(probability(now.one_to_one.class_logits.max(axis=1)))[::-1]
    found = errors(stored(now, most=5), now, most=7)
    assert found.kept_score == pytest.approx(max(scores[5] - scores[6], others[5] - others[6]))


def test_attention_pooled_channels_and_vectors_are_told():
    now = every(whole())
    before = stored(now)
    assert len(before.neck.rows) > 1
    neck = replace(before.neck, attention=before.neck.attention + 0.125, pooled=before.neck.pooled.copy())
    neck.pooled[2] += 0.5
    vectors = [level.copy() for level in neck.vectors]
    level = next(number for number, of_level in enumerate(vectors) if len(of_level))
    vectors[level][0, 1] += 0.25
    found = errors(replace(before, neck=replace(neck, vectors=tuple(vectors))), now)
    assert found.attention == pytest.approx(0.125, rel=1e-5)
    assert found.pooled == pytest.approx(0.5 / np.abs(now.neck.pooled).max(), rel=1e-5)
    assert found.vectors == pytest.approx(0.25 / np.abs(before.neck.vectors[level][0]).max(), rel=1e-5)


def test_a_view_without_anchors_and_no_view_at_all():
    now = every(whole())
    found = errors(stored(now, threshold=1.0), now, threshold=1.0)
    assert found == largest([]) == AnswerErrors()


def test_the_largest_of_several():
    a, b = AnswerErrors(3, 0.1, 0.2, 0.0, 0.5), AnswerErrors(4, 0.05, 0.4)
    assert largest([a, b]) == AnswerErrors(7, 0.1, 0.4, 0.0, 0.5)
