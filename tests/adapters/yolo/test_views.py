"""Views are a pure function of picture, view, seed and gains: of nothing that happened before them.

Views with a teacher's answers are refused unless they are the very pixels that the teacher saw; kept ones are exact.
"""

import random
import shutil
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from cache_fixture import FULL, made_up_view
from torch.utils.data import DataLoader
from training_fixture import params_of
from view_fixture import PLACES, PLAN, content, view_dataset

from kd_steps.adapters.cache.folder import open_for_writing
from kd_steps.adapters.cache.store import TeacherCache, write_shards
from kd_steps.adapters.data.reader import load_prepared
from kd_steps.core.cache.keys import CacheKeys
from kd_steps.core.cache.rows import AnsweredView
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.answers import Answer
from kd_steps.core.detect.neck import NeckAnswer
from kd_steps.core.detect.teacher_targets import TeacherTargets
from kd_steps.core.detect.views import View, ViewPlan, pixel_hash
from kd_steps.edge.preprocess import letterbox


def test_all_views_differ(views):
    assert len({found[0] for found in views.values()}) == len(PLACES)


@pytest.mark.parametrize("cache", [None, "ram"])
def test_order_and_what_was_loaded_before_do_not_count(training_project, views, cache):
    source = view_dataset(training_project, cache=cache)
    shuffled = PLACES * 2
    random.Random(5).shuffle(shuffled)
    assert all(content(source[place]) == views[place] for place in shuffled)


def test_a_view_alone_in_a_fresh_data_set(training_project, views):
    for place in ((0, 5), (1, 0), (3, 7)):
        assert content(view_dataset(training_project)[place]) == views[place]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_number_of_loader_processes_does_not_count(training_project, views, workers):
    source = view_dataset(training_project)
    loader = DataLoader(source, batch_size=None, sampler=PLACES, num_workers=workers)
    assert [content(sample) for sample in loader] == [views[place] for place in PLACES]


def test_global_seeds_do_not_count_and_are_put_back(training_project, views):
    source = view_dataset(training_project)
    for seed in (0, 123):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        assert content(source[(0, 2)]) == views[(0, 2)]
        assert random.getstate() == before[0]
        assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[1], strict=True))
        assert torch.equal(torch.get_rng_state(), before[2])


def test_generators_are_put_back_after_an_error():
    from kd_steps.adapters.yolo.views import seeded

    before = random.getstate()
    with pytest.raises(KeyError), seeded(7):
        {}[random.random()]
    assert random.getstate() == before


@pytest.mark.parametrize("changed", [{"seed": 1}, {"digest": "b" * 64}])
def test_seed_and_gains_give_other_views(training_project, views, changed):
    source = view_dataset(training_project, **changed)
    assert all(content(source[place])[0] != views[place][0] for place in PLACES)


def test_an_epoch_shows_the_view_of_the_plan(training_project, views):
    source = view_dataset(training_project, plan=ViewPlan(epochs=9, closing_epochs=3, views=2, closing_views=2))
    assert content(source[(2, 3)]) == views[(0, 3)] == content(source.view(3, View(False, 0)))
    assert content(source[(5, 3)]) == views[(1, 3)]
    assert content(source[(6, 3)]) == views[(2, 3)] == content(source.view(3, View(True, 0)))
    assert content(source[(8, 3)]) == views[(2, 3)]


GREYS = range(20, 240, 18)


@pytest.fixture(scope="module")
def greys(tmp_path_factory):
    """Pictures of one grey each, so that a mosaic's partners can be read off its pixels."""
    folder, images = tmp_path_factory.mktemp("greys"), []
    for grey in GREYS:
        cv2.imwrite(str(folder / f"{grey}.png"), np.full((64, 64, 3), grey, np.uint8))
        images.append(
            LabelledImage(
                folder / f"{grey}.png", f"{grey:064d}", (64, 64), np.zeros(0, np.int64), np.zeros((0, 4), np.float32)
            )
        )
    return images


def greys_in(sample):
    values, counts = np.unique(sample["img"].numpy(), return_counts=True)
    return {int(v) for v, n in zip(values, counts, strict=True) if n > 200} & set(GREYS)


def test_partners_come_from_the_whole_set_and_closing_views_have_none(training_project, greys):
    source = view_dataset(training_project, greys, hsv_h=0.0, hsv_s=0.0, hsv_v=0.0, scale=0.0, translate=0.0)
    met = Counter(grey for number in range(60) for grey in greys_in(source.view(0, View(False, number))))
    assert set(met) == set(GREYS)
    assert max(n for grey, n in met.items() if grey != GREYS[0]) < 40, "no favourites"
    assert all(greys_in(source.view(0, View(True, number))) == {GREYS[0]} for number in range(5))


@pytest.mark.parametrize("size_wh", [(64, 64), (96, 96), (128, 96), (96, 128), (32, 32)])
def test_a_closing_view_without_flip_and_colour_is_what_the_edge_makes(training_project, tmp_path, size_wh):
    from kd_steps.adapters.contract_source import current_contract

    params = params_of(training_project)
    picture = np.random.default_rng(3).integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    boxes = np.array([[0.5, 0.5, 0.25, 0.5]], np.float32)
    image = LabelledImage(tmp_path / "a.png", "d" * 64, size_wh, np.array([1]), boxes)
    still = dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "fliplr", "flipud"), 0.0)
    sample = view_dataset(training_project, [image], **still).view(0, View(True, 0))
    expected, fit = letterbox(picture, current_contract(params.preprocessing, params.augmentation))
    assert np.array_equal(sample["img"].numpy(), expected[:, :, ::-1].transpose(2, 0, 1))
    shares = np.array([fit.resized_width_px, fit.resized_height_px]) / 64
    assert sample["bboxes"].numpy()[0] == pytest.approx([0.5, 0.5, *(boxes[0, 2:] * shares)], abs=1e-6)


def test_labels_follow_their_pixels(training_project):
    source = view_dataset(training_project, fliplr=1.0, scale=0.0, translate=0.0, hsv_h=0.0, hsv_s=0.0, hsv_v=0.0)
    image, sample = source.images[0], source.view(0, View(True, 0))
    pixels = cv2.cvtColor(cv2.imread(str(image.path)), cv2.COLOR_BGR2RGB)[:, ::-1].transpose(2, 0, 1)
    assert np.array_equal(sample["img"].numpy(), pixels)
    flipped = image.boxes_xywh * [-1, 1, 1, 1] + [1, 0, 0, 0]
    assert np.allclose(sample["bboxes"].numpy(), flipped, atol=1e-6)
    assert sample["cls"].ravel().tolist() == image.class_ids.tolist()


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_kept_views_are_the_drawn_ones_without_a_look_at_the_pictures(training_project, views, kept, workers):
    cache, gone = kept
    loader = DataLoader(
        view_dataset(training_project, gone, teacher=cache), batch_size=None, sampler=PLACES, num_workers=workers
    )
    assert [content(sample) for sample in loader] == [views[place] for place in PLACES]


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_sample_may_be_changed_without_harm_to_the_next(training_project, kept, views):
    source = view_dataset(training_project, kept[1], teacher=kept[0])
    changed = source[(0, 3)]
    for name in ("img", "cls", "bboxes"):
        changed[name].zero_()
    assert content(source[(0, 3)]) == views[(0, 3)]


@pytest.mark.slow
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
