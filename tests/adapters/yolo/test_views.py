"""Views are a pure function of picture, view, seed and gains: of nothing that happened before them."""

import random
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from training_fixture import params_of
from view_fixture import PLACES, content, view_dataset

from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.views import View, ViewPlan
from kd_steps.edge.preprocess import letterbox


def test_all_views_differ(views):
    assert len({found[0] for found in views.values()}) == len(PLACES)
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
    loader = DataLoader(
        view_dataset(training_project),
        batch_size=None,
        sampler=PLACES,
        num_workers=workers,
        multiprocessing_context=None,
    )
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
