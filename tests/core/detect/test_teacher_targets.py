"""Whole answers, laid end to end for a batch."""

import numpy as np
import torch

from kd_steps.core.detect.answers import sparse_answers
from kd_steps.core.detect.neck import neck_answers
from kd_steps.core.detect.teacher_targets import TeacherTargets, batch_targets

SHAPES = ((5, 4, 4), (3, 2, 2))
CELLS = (16, 4)


def targets(seed=1, two_branches=True, batch=3, max_vectors=4, threshold=0.3):
    """Targets of a made-up teacher, and the dense outputs that they were cut from."""
    generator = torch.Generator().manual_seed(seed)
    branches = [
        (torch.randn(batch, 2, 20, generator=generator) * 2, torch.randn(batch, 16, 20, generator=generator))
        for _ in range(2)
    ]
    features = [torch.randn(batch, *shape, generator=generator) for shape in SHAPES]
    many, one = (sparse_answers(*branch, threshold, 300) for branch in branches)
    necks = neck_answers(features, many, True, True, max_vectors)
    found = [
        TeacherTargets(number, many[number], one[number] if two_branches else None, necks[number], CELLS)
        for number in range(batch)
    ]
    return found, branches, features


def test_each_branch_is_batched_for_itself():
    found, branches, _ = targets()
    batch = batch_targets(found)
    for answers, (logits, boxes) in zip((batch.one_to_many, batch.one_to_one), branches, strict=True):
        assert torch.equal(answers.class_logits, logits[answers.sample, :, answers.anchor])
        assert torch.equal(answers.box_bins.flatten(1), boxes[answers.sample, :, answers.anchor])
        assert answers.sample.unique().tolist() == [0, 1, 2]
    assert batch.one_to_many.anchor.tolist() != batch.one_to_one.anchor.tolist()


def test_a_head_with_one_branch_has_no_other():
    assert batch_targets(targets(two_branches=False)[0]).one_to_one is None


def test_the_neck_follows_the_one_to_many_branch():
    found, _, features = targets()
    batch = batch_targets(found)
    kept = {(int(s), int(a)) for s, a in zip(batch.one_to_many.sample, batch.one_to_many.anchor, strict=True)}
    for number, (level, vectors) in enumerate(zip(features, batch.neck.vectors, strict=True)):
        assert torch.equal(level.flatten(2)[vectors.sample, :, vectors.cell], vectors.values)
        places = {(int(s), int(c) + 16 * number) for s, c in zip(vectors.sample, vectors.cell, strict=True)}
        assert places <= kept
    assert sum(len(vectors.cell) for vectors in batch.neck.vectors) == 12
    assert batch.neck.attention.shape == (3, 20)
    assert np.array_equal(batch.neck.pooled[1].numpy(), found[1].neck.pooled)


def test_on_another_device_everything_is_there():
    for two_branches in (True, False):
        moved = batch_targets(targets(two_branches=two_branches)[0]).to(torch.device("meta"))
        assert moved.one_to_many.class_logits.device.type == moved.neck.vectors[1].values.device.type == "meta"
        assert (moved.one_to_one is None) is (not two_branches)
        if two_branches:
            assert moved.one_to_one.box_bins.device.type == "meta"
