"""Made-up heads and necks of a student and a teacher, and all terms at once, for tests of what compares them."""

import torch

from kd_steps.core.detect.answers import sparse_answers
from kd_steps.core.detect.neck import neck_answers
from kd_steps.core.detect.outputs import BranchOutputs, DetectorOutputs
from kd_steps.core.detect.teacher_targets import TeacherTargets, batch_targets
from kd_steps.core.distill.neck_adapters import NeckAdapters
from kd_steps.core.distill.terms import TermWeights

NAMES = {
    "kd_class": "class_weight",
    "kd_box": "box_weight",
    "kd_attention": "attention_weight",
    "kd_channel": "channel_weight",
    "kd_feature": "feature_weight",
    "kd_relational": "relational_weight",
}
ALL = TermWeights(**dict.fromkeys(NAMES.values(), 1.0), feature_levels=(0.7, 0.3))
SIDES = (3, 2)  # cells of a level's row; 13 anchors
ANCHORS = sum(side**2 for side in SIDES)
MINE, THEIRS = (4, 6), (5, 3)  # neck channels of student and teacher


def dense(seed, classes=2, bins=4, batch=3):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, classes, ANCHORS, generator=generator) * 2,
        torch.randn(batch, 4 * bins, ANCHORS, generator=generator).abs(),
    )


def neck(seed, channels=MINE, batch=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, s, s, generator=generator) for c, s in zip(channels, SIDES, strict=True)]


def student(seed=2, two_branches=False, **shape):
    """A student's outputs as leaves, so that their gradients can be read."""
    many, one = (BranchOutputs(*(t.requires_grad_() for t in dense(seed + i, **shape))) for i in (0, 100))
    return DetectorOutputs(many, one if two_branches else None, [level.requires_grad_() for level in neck(seed)])


def teacher(seed=1, threshold=0.3, two_branches=False, max_vectors=5, attention=True, pooled=True, **shape):
    """A teacher's answers to a batch of three views."""
    many, one = (sparse_answers(*dense(seed + i, **shape), threshold, 300) for i in (0, 200))
    necks = neck_answers(neck(seed + 50, THEIRS), many, attention, pooled, max_vectors)
    cells = tuple(side**2 for side in SIDES)
    return batch_targets(
        [TeacherTargets(0, many[i], one[i] if two_branches else None, necks[i], cells) for i in range(len(many))]
    )


def adapters(seed=5):
    torch.manual_seed(seed)
    return NeckAdapters(MINE, THEIRS)
