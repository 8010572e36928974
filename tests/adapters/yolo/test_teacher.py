"""A frozen teacher: nobody's training reaches it, and its stored answers are its live ones."""

import hashlib

import pytest
import torch
from training_fixture import decided_model

from kd_steps.adapters.teacher_cache import TeacherCache, cache_keys, open_for_writing, write_shards
from kd_steps.core.cache_header import CacheHeader
from kd_steps.core.losses.box_term import decode_sides
from kd_steps.core.teacher_records import batch_records
from kd_steps.core.views import View

CPU = torch.device("cpu")
IMAGES = [hashlib.sha256(bytes([i])).hexdigest() for i in range(4)]
HASHES = [101, 102, 103, 104]
KEYS = cache_keys(IMAGES, [View(False, 0)])


def views():
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def teacher(model, name="fp32", threshold=0.01, most=300):
    from kd_steps.adapters.yolo.precision import Precision
    from kd_steps.adapters.yolo.teacher import FrozenTeacher

    return FrozenTeacher(model, CPU, Precision(name, channels_last=True), threshold, most)


def header(bins, box_bins):
    return CacheHeader("t", "c", "a", "d", 0, 1, 0, ("a", "b"), bins, box_bins, 0.01, 300, "fp32", {})


@pytest.mark.parametrize(
    ("architecture", "bins", "box_bins", "sides_off"),
    [(None, 16, "float16", 0.01), (None, 16, "int8", 0.35), ("yolo26n.yaml", 1, "float16", 0.01)],
)
def test_stored_answers_are_the_live_ones(tmp_path, architecture, bins, box_bins, sides_off):
    asked = teacher(decided_model(architecture=architecture))
    kind = header(bins, box_bins)
    open_for_writing(tmp_path, kind)
    write_shards(tmp_path, kind, KEYS, 3, lambda part: iter(asked.records(*picked(part))), lambda *_: None)
    cache = TeacherCache(tmp_path, kind, len(KEYS))
    stored = batch_records([cache.record(key.image, key.view) for key in KEYS])
    live = asked.answer(picked(KEYS)[0].float() / 255)
    assert len(live.anchor) > 50, "it has something to say"
    assert torch.equal(stored.sample, live.sample)
    assert torch.equal(stored.anchor, live.anchor)
    assert (stored.class_logits.sigmoid() - live.class_logits.sigmoid()).abs().max() <= 1e-3
    assert (decode_sides(stored.box_bins) - decode_sides(live.box_bins)).abs().max() <= sides_off
    assert [cache.record(key.image, key.view).pixel_hash for key in KEYS] == picked(KEYS)[1]


def picked(part):
    places = [IMAGES.index(key.image) for key in part]
    return views()[places], [HASHES[place] for place in places]


def test_answers_are_those_of_the_detector_in_evaluation():
    from kd_steps.adapters.yolo.teacher import distillable_outputs

    model = decided_model()
    with torch.no_grad():
        raw = distillable_outputs(model.eval()(views().float() / 255)[1])
    found = teacher(model).answer(views().float() / 255)
    for sample, anchor, logits in zip(found.sample, found.anchor, found.class_logits, strict=True):
        assert torch.allclose(logits, raw["scores"][sample, :, anchor], atol=1e-3)
    kept = torch.zeros(raw["scores"].shape[0], raw["scores"].shape[2], dtype=torch.bool)
    kept[found.sample, found.anchor] = True
    assert torch.equal(kept, raw["scores"].amax(1).sigmoid() > 0.01)


def test_training_the_source_does_not_reach_it():
    model = decided_model()
    frozen = teacher(model)
    before = frozen.answer(views().float() / 255)
    model.train().requires_grad_()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
        model(views().float() / 255)  # moves the running statistics
    after = frozen.answer(views().float() / 255)
    assert torch.equal(before.class_logits, after.class_logits)
    assert torch.equal(before.box_bins, after.box_bins)
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
    frozen = teacher(decided_model())
    images = (views().float() / 255).requires_grad_()
    assert not frozen.answer(images).class_logits.requires_grad
    frozen.records(views()[:3], HASHES[:3])
    assert frozen.forwards == 7


def top_scores(records):
    return [torch.from_numpy(record.class_logits).sigmoid().amax(1) for record in records]


def test_thresholds_are_kept():
    everything = torch.cat(top_scores(teacher(decided_model()).records(views(), HASHES)))
    threshold = everything.quantile(0.8).item()
    few = top_scores(teacher(decided_model(), threshold=threshold, most=5).records(views(), HASHES))
    assert max(len(scores) for scores in few) == 5
    assert torch.cat(few).min() > threshold
