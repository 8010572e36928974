"""A frozen teacher: nobody's training reaches it, and its stored answers are its live ones."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from answer_content import content
from cache_fixture import FULL
from training_fixture import decided_model

from kd_steps.adapters.cache.folder import open_for_writing
from kd_steps.adapters.cache.store import TeacherCache, write_shards
from kd_steps.core.cache.keys import CacheKeys
from kd_steps.core.cache.rows import AnsweredView
from kd_steps.core.detect.neck import pooled_channels, spatial_attention
from kd_steps.core.detect.outputs import decode_sides
from kd_steps.core.detect.teacher_targets import batch_targets
from kd_steps.core.detect.views import View

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SIDE_PX, STRIDES_PX = 64, (8, 16, 32)
IMAGES = [hashlib.sha256(bytes([i])).hexdigest() for i in range(4)]
HASHES = [101, 102, 103, 104]
KEYS = CacheKeys(IMAGES, [View(False, 0)])
EVERYTHING = {"attention": True, "pooled": True, "max_vectors": 60}
NO_LABELS = np.zeros((0, 5), np.float32)


def views():
    return torch.randint(
        0, 256, (4, 3, SIDE_PX, SIDE_PX), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def teacher(model, name="fp32", threshold=0.01, most=300, **more):
    from kd_steps.adapters.yolo.precision import Precision
    from kd_steps.adapters.yolo.teach.teacher import FrozenTeacher

    return FrozenTeacher(model, CPU, Precision(name, channels_last=True), content(threshold, most, **more))


def header(model):
    from kd_steps.adapters.yolo.models import head_geometry, neck_channels

    head = head_geometry(model)
    return replace(
        FULL,
        imgsz_px=SIDE_PX,
        classes=("a", "b"),
        bins=head.bins,
        two_branches=head.end2end,
        cells=tuple((SIDE_PX // stride) ** 2 for stride in head.strides_px),
        neck_channels=neck_channels(model),
        max_vectors=60,
    )


@pytest.mark.parametrize(
    ("architecture", "bins", "branches"), [(None, 16, 1), ("yolov10n.yaml", 16, 2), ("yolo26n.yaml", 1, 2)]
)
def test_stored_answers_are_the_live_ones(tmp_path, architecture, bins, branches):
    model = decided_model(architecture=architecture)
    asked, kind = teacher(model, **EVERYTHING), header(model)
    assert (kind.bins, kind.two_branches) == (bins, branches == 2)
    open_for_writing(tmp_path, kind)
    write_shards(tmp_path, kind, KEYS, 3, "fp32", lambda part: answered(asked, part), lambda *_: None)
    cache = TeacherCache(tmp_path, kind, KEYS)
    stored = batch_targets([cache.targets(key.image, key.view) for key in KEYS])
    live = asked.answer(picked(KEYS)[0].float() / 255)
    require_close(stored.one_to_many, live.one_to_many)
    assert (stored.one_to_one is None) is (live.one_to_one is None) is (branches == 1)
    if branches == 2:
        require_close(stored.one_to_one, live.one_to_one)
        assert not torch.equal(live.one_to_one.class_logits, live.one_to_many.class_logits)
    assert (stored.neck.attention - live.neck.attention).abs().max() <= 0.51 / 255
    assert torch.allclose(stored.neck.pooled, live.neck.pooled, rtol=2**-11, atol=1e-7)
    assert len(stored.neck.vectors) == 3
    for kept, found in zip(stored.neck.vectors, live.neck.vectors, strict=True):
        assert torch.equal(kept.sample, found.sample)
        assert torch.equal(kept.cell, found.cell)
        assert ((kept.values - found.values).abs() <= 0.501 / 127 * found.values.abs().amax(dim=1, keepdim=True)).all()
        assert torch.allclose(kept.score, found.score, rtol=0, atol=1e-3)
    assert [cache.targets(key.image, key.view).pixel_hash for key in KEYS] == picked(KEYS)[1]


def require_close(stored, live):
    """The bars of a cached answer against a live one."""
    assert len(live.anchor) > 50, "it has something to say"
    assert torch.equal(stored.sample, live.sample)
    assert torch.equal(stored.anchor, live.anchor)
    assert (stored.class_logits.sigmoid() - live.class_logits.sigmoid()).abs().max() <= 1e-3
    off_px = (decode_sides(stored.box_bins) - decode_sides(live.box_bins)).abs().amax(1) * stride_of(live.anchor)
    assert off_px.max() <= 0.05


def stride_of(anchors):
    """The stride of each anchor's level, px."""
    return torch.cat([torch.full(((SIDE_PX // s) ** 2,), float(s)) for s in STRIDES_PX])[anchors]


def picked(part):
    places = [IMAGES.index(key.image) for key in part]
    return views()[places], [HASHES[place] for place in places]


def answered(asked, part):
    pixels, hashes = picked(part)
    for view, own in zip(pixels, asked.targets(pixels, hashes), strict=True):
        yield AnsweredView(own, view.numpy(), NO_LABELS)


@pytest.mark.parametrize("architecture", [None, "yolo26n.yaml"])
def test_answers_are_those_of_the_detector_in_evaluation(architecture):
    from kd_steps.adapters.yolo.teach.teacher import distillable_outputs

    model = decided_model(architecture=architecture)
    with torch.no_grad():
        raw = distillable_outputs(model.eval()(views().float() / 255)[1])
    answers = teacher(model, **EVERYTHING).answer(views().float() / 255)
    branches = [(answers.one_to_many, raw.one_to_many)] + (
        [(answers.one_to_one, raw.one_to_one)] if raw.one_to_one else []
    )
    assert len(branches) == (1 if architecture is None else 2)
    for found, dense in branches:
        for sample, anchor, logits in zip(found.sample, found.anchor, found.class_logits, strict=True):
            assert torch.allclose(logits, dense.class_logits[sample, :, anchor], atol=1e-3)
        kept = torch.zeros(dense.class_logits.shape[0], dense.class_logits.shape[2], dtype=torch.bool)
        kept[found.sample, found.anchor] = True
        scores = dense.class_logits.amax(1).sigmoid()
        clear = (scores - 0.01).abs() > 1e-5  # fused layers round otherwise
        assert torch.equal(kept[clear], scores[clear] > 0.01)
    maps = torch.cat([m / m.amax(1, keepdim=True) for m in map(spatial_attention, raw.features)], dim=1)
    assert torch.allclose(answers.neck.attention, maps, atol=1e-3)
    assert torch.allclose(answers.neck.pooled, pooled_channels(raw.features), atol=1e-3)
    for level, vectors in zip(raw.features, answers.neck.vectors, strict=True):
        assert torch.allclose(level.flatten(2)[vectors.sample, :, vectors.cell], vectors.values, atol=1e-3)
        assert len(vectors.cell) > 0
    counts = [min(60, int((answers.one_to_many.sample == view).sum())) for view in range(4)]
    assert sum(len(vectors.cell) for vectors in answers.neck.vectors) == sum(counts)


def test_what_is_not_asked_for_is_not_answered():
    neck = teacher(decided_model()).answer(views().float() / 255).neck
    assert (neck.attention.numel(), neck.pooled.numel(), neck.vectors) == (0, 0, ())


def test_training_the_source_does_not_reach_it():
    model = decided_model()
    frozen = teacher(model, **EVERYTHING)
    before = frozen.answer(views().float() / 255)
    model.train().requires_grad_()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
        model(views().float() / 255)  # moves the running statistics
    after = frozen.answer(views().float() / 255)
    assert torch.equal(before.one_to_many.class_logits, after.one_to_many.class_logits)
    assert torch.equal(before.one_to_many.box_bins, after.one_to_many.box_bins)
    assert torch.equal(before.neck.attention, after.neck.attention)
    assert not frozen.model.training
    assert not any(parameter.requires_grad for parameter in frozen.model.parameters())


def test_the_source_is_left_as_it_was():
    model = decided_model().train().requires_grad_()
    keys = list(model.state_dict())
    teacher(model)
    assert model.training
    assert list(model.state_dict()) == keys, "batch norms are fused in the copy only"
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_answers_carry_no_gradient_and_are_counted():
    frozen = teacher(decided_model(), **EVERYTHING)
    images = (views().float() / 255).requires_grad_()
    found = frozen.answer(images)
    assert not found.one_to_many.class_logits.requires_grad
    assert not found.neck.attention.requires_grad
    assert [targets.pixel_hash for targets in frozen.targets(views()[:3], HASHES[:3])] == HASHES[:3]
    assert frozen.forwards == 7


def top_scores(targets):
    return [torch.from_numpy(own.one_to_many.class_logits).sigmoid().amax(1) for own in targets]


def test_thresholds_are_kept():
    everything = torch.cat(top_scores(teacher(decided_model()).targets(views(), HASHES)))
    threshold = everything.quantile(0.8).item()
    few = top_scores(teacher(decided_model(), threshold=threshold, most=5).targets(views(), HASHES))
    assert max(len(scores) for scores in few) == 5
    assert torch.cat(few).min() > threshold
