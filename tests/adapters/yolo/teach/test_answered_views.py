"""Views with a teacher's answers: refused unless they are the very pixels that the teacher saw; kept ones are exact."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from cache_fixture import FULL, made_up_view
from torch.utils.data import DataLoader
from view_fixture import PLACES, PLAN, content, view_dataset

from kd_steps.adapters.cache.store import TeacherCache, open_for_writing, write_shards
from kd_steps.adapters.data.reader import load_prepared
from kd_steps.core.cache.keys import CacheKeys
from kd_steps.core.cache.rows import AnsweredView
from kd_steps.core.detect.answers import Answer
from kd_steps.core.detect.neck import NeckAnswer
from kd_steps.core.detect.teacher_targets import TeacherTargets
from kd_steps.core.detect.views import pixel_hash

pytestmark = pytest.mark.slow


def head_answer(count):
    """A head's answer of so many anchors, whose logits say how many."""
    logits, bins = np.full((count, 2), count, np.float16), np.zeros((count, 4, 16), np.float16)
    return Answer(np.arange(count, dtype=np.int32), logits, bins, ceiling=0.01)


class KnownPixels:
    """Answers with nothing but the hashes of pixels seen once."""

    keeps_views = False

    def __init__(self, source):
        self.hashes = {
            (image.digest, view): pixel_hash(source.view(index, view)["img"].numpy())
            for index, image in enumerate(source.images)
            for view in source.plan.all_views()
        }

    def targets(self, image, view):
        nothing = np.zeros(0, np.float32)
        neck = NeckAnswer(nothing, nothing, np.zeros(0, np.int32), ())
        return TeacherTargets(self.hashes[image, view], head_answer(0), None, neck, (64, 16, 4))

    def sample(self, image, view):
        return None


def test_one_other_pixel_is_an_error_that_names_the_picture(training_project, tmp_path):
    from kd_steps.adapters.yolo.views import ViewMismatchError

    teacher = KnownPixels(view_dataset(training_project))
    originals = load_prepared(training_project / "data/prepared").split("train")
    copies = [replace(image, path=tmp_path / image.path.name) for image in originals]
    for original, copied in zip(originals, copies, strict=True):
        shutil.copyfile(original.path, copied.path)
    whole = view_dataset(training_project, copies, teacher=teacher)
    assert all(content(whole[place]) for place in PLACES), "copies are the same pixels"
    pixels = cv2.imread(str(copies[3].path))
    pixels[32, 32] = 255 - pixels[32, 32]
    cv2.imwrite(str(copies[3].path), pixels)
    damaged = view_dataset(training_project, copies, teacher=teacher)
    with pytest.raises(
        ViewMismatchError, match=rf"{copies[3].path.name}: View\(closing=True, number=0\) has other pixels"
    ):
        damaged[(2, 3)]
    damaged[(2, 4)]


def test_a_batch_carries_labels_and_answers_in_its_order(training_project):
    from kd_steps.adapters.yolo.views import ViewDataset

    class Numbered(KnownPixels):
        def targets(self, image, view):
            found = super().targets(image, view)
            count = list(self.hashes).index((image, view)) % 3
            return replace(found, one_to_many=head_answer(count))

    source = view_dataset(training_project)
    teacher = Numbered(source)
    source.teacher = teacher
    samples = [source[(0, index)] for index in (5, 1, 6)]
    expected = [len(sample["teacher"].one_to_many.anchors) for sample in samples]
    boxes = [len(sample["cls"]) for sample in samples]
    batch = ViewDataset.collate_fn(samples)
    assert batch["img"].shape == (3, 3, 64, 64)
    assert batch["img"].dtype == torch.uint8
    assert [int((batch["teacher"].one_to_many.sample == i).sum()) for i in range(3)] == expected
    assert [int((batch["batch_idx"] == i).sum()) for i in range(3)] == boxes
    assert set(expected) != {0}


def stored(project, folder, harm=lambda pixels: pixels):
    """A cache on disk that keeps every view, its pixels ``harm``-ed after the teacher saw them."""
    source, header = view_dataset(project), replace(FULL, imgsz_px=64)
    places = {image.digest: index for index, image in enumerate(source.images)}
    keys, random_ = CacheKeys(list(places), PLAN.all_views()), np.random.default_rng(0)

    def answers(part):
        for key in part:
            sample = source.view(places[key.image], key.view)
            targets = made_up_view(random_, header, 9).targets
            labels = torch.cat([sample["cls"], sample["bboxes"]], dim=1).numpy()
            targets = replace(targets, pixel_hash=pixel_hash(sample["img"].numpy()))
            yield AnsweredView(targets, harm(sample["img"].numpy().copy()), labels)

    open_for_writing(folder, header)
    write_shards(folder, header, keys, 7, "fp32", answers, lambda *_: None)
    return TeacherCache(folder, header, keys)


@pytest.fixture(scope="module")
def kept(training_project, tmp_path_factory):
    """A cache that keeps every view, and pictures whose files are not there any more."""
    cache = stored(training_project, tmp_path_factory.mktemp("kept"))
    pictures = load_prepared(training_project / "data/prepared").split("train")
    return cache, [replace(image, path=image.path.with_suffix(".gone")) for image in pictures]


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_views_are_the_drawn_ones_without_a_look_at_the_pictures(training_project, views, kept, workers):
    cache, gone = kept
    loader = DataLoader(
        view_dataset(training_project, gone, teacher=cache), batch_size=None, sampler=PLACES, num_workers=workers
    )
    assert [content(sample) for sample in loader] == [views[place] for place in PLACES]


def test_a_kept_sample_is_a_drawn_one_in_all_that_training_reads(training_project, kept):
    cache, gone = kept
    from_cache, drawn = view_dataset(training_project, gone, teacher=cache), view_dataset(training_project)
    for place in PLACES:
        found, expected = from_cache[place], drawn[place]
        assert found.keys() - {"teacher"} == expected.keys() - {"ratio_pad"}, "which only validation reads"
        for name in ("img", "cls", "bboxes", "batch_idx"):
            assert torch.equal(found[name], expected[name])
            assert found[name].dtype == expected[name].dtype
        assert tuple(found["ori_shape"]) == tuple(expected["ori_shape"])
        assert tuple(found["resized_shape"]) == tuple(expected["resized_shape"])
        assert found["labelled"] is expected["labelled"] is True


def test_a_sample_may_be_changed_without_harm_to_the_next(training_project, kept, views):
    source = view_dataset(training_project, kept[1], teacher=kept[0])
    changed = source[(0, 3)]
    for name in ("img", "cls", "bboxes"):
        changed[name].zero_()
    assert content(source[(0, 3)]) == views[(0, 3)]


def test_one_flipped_bit_of_any_kept_view_is_refused(training_project, tmp_path):
    from kd_steps.adapters.yolo.views import ViewMismatchError

    random_ = np.random.default_rng(1)

    def flip_a_bit(pixels):
        pixels.reshape(-1)[random_.integers(pixels.size)] ^= 1 << random_.integers(8)
        return pixels

    source = view_dataset(training_project, teacher=stored(training_project, tmp_path, flip_a_bit))
    for epoch, index in PLACES:
        with pytest.raises(ViewMismatchError, match=rf"{source.images[index].path.name}: .* has other pixels"):
            source[(epoch, index)]
