"""The adapters: shapes, what they cost, and that they can bring a student's vectors to a teacher's."""

import pytest
import torch

from kd_steps.core.distill.neck_adapters import NeckAdapters

MINE, THEIRS = (3, 4, 6), (5, 7, 2)


def test_each_level_goes_from_the_students_channels_to_the_teachers():
    adapters = NeckAdapters(MINE, THEIRS)
    for level, (mine, theirs) in enumerate(zip(MINE, THEIRS, strict=True)):
        assert adapters.vectors[level](torch.randn(9, mine)).shape == (9, theirs)
        assert adapters.vectors[level](torch.randn(0, mine)).shape == (0, theirs)
    assert adapters.pooled(torch.randn(4, sum(MINE))).shape == (4, sum(THEIRS))


def test_a_single_vector_gives_what_it_gives_among_others():
    adapters, vectors = NeckAdapters(MINE, THEIRS).train(), torch.randn(6, 4)
    together = adapters.vectors[1](vectors)
    alone = torch.cat([adapters.vectors[1](vector[None]) for vector in vectors])
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_teacher_with_other_levels_is_refused():
    for others in (THEIRS[:2], ()):
        with pytest.raises(ValueError, match=rf"student's neck has 3 levels, the teacher's {len(others)}"):
            NeckAdapters(MINE, others)
