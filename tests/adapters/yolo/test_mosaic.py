"""Unlabelled pictures among labelled ones: views mix one kind only, and labelled views are the same without them."""

import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from view_fixture import content, view_options

from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.views import View, ViewPlan, view_key

PLAN = ViewPlan(epochs=8, closing_epochs=2, views=6, closing_views=2)
SEED, DIGEST = 3, "a" * 64
GAINS = {"mosaic": 1.0, "scale": 0.5, "translate": 0.1, "fliplr": 0.5, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}
COUNT, SIDE_PX = 10, 64
FILL = 114


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twice as many pictures as a set has: each content once in blue, to be labelled, and once in red, to be not."""
    folder = tmp_path_factory.mktemp("kinds")
    return {labelled: [picture(folder, number, labelled) for number in range(COUNT)] for labelled in (True, False)}


def picture(folder, number, labelled):
    pixels = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    pixels[:, :, 0 if labelled else 2] = 130 + 10 * number  # of blue, green and red
    path = folder / f"{'blue' if labelled else 'red'}-{number}.png"
    cv2.imwrite(str(path), pixels)
    classes = np.array([number % 2], np.int64) if labelled else np.zeros(0, np.int64)
    boxes = np.full((len(classes), 4), 0.5, np.float32)
    return LabelledImage(path, f"{2 * number + labelled:064d}", (SIDE_PX, SIDE_PX), classes, boxes, labelled)


def options(cache=None, **gains):
    return view_options({**GAINS, **gains}, cache)


def dataset(images, **changes):
    from kd_steps.adapters.yolo.views import ViewDataset

    return ViewDataset(images, PLAN, SEED, DIGEST, **options(**changes))


KINDS = st.lists(st.booleans(), min_size=COUNT, max_size=COUNT)


@settings(deadline=None, max_examples=25)
@given(kinds=KINDS, mixed=st.booleans())
def test_no_partner_is_of_the_other_kind(pictures, kinds, mixed):
    images = [pictures[kind][number] for number, kind in enumerate(kinds)]
    source = dataset(images, **({"mixup": 1.0} if mixed else {}))
    for index, image in enumerate(images):
        for view in PLAN.all_views():
            sample = source.view(index, view)
            red, _, blue = sample["img"].numpy().astype(int)
            assert sample["labelled"] is image.labelled
            assert (red <= blue).all() if image.labelled else (blue <= red).all(), "not one pixel, fill apart"
            assert (red != blue).any()
            if not image.labelled:
                assert len(sample["cls"]) == 0


def colours(sample):
    values, counts = np.unique(sample["img"].numpy().max(axis=0), return_counts=True)
    return {int(value) for value, count in zip(values, counts, strict=True) if count > 100 and value != FILL}


def test_every_picture_of_the_kind_is_a_partner(pictures):
    images = [*pictures[True][:7], *pictures[False][7:]]
    source = dataset(images, scale=0.0, translate=0.0)
    for index, own in ((0, range(7)), (9, range(7, 10))):
        met = set().union(*(colours(source.view(index, View(False, number))) for number in range(60)))
        assert met == {130 + 10 * number for number in own}


@settings(deadline=None, max_examples=15)
@given(kinds=KINDS.filter(any), order=st.randoms(use_true_random=False), cache=st.sampled_from([None, "ram"]))
def test_views_are_pure_and_labelled_ones_stay_as_without_the_unlabelled(pictures, kinds, order, cache):
    images = [pictures[kind][number] for number, kind in enumerate(kinds)]
    labelled = [image for image in images if image.labelled]
    alone = dataset(labelled)
    expected = {
        (image.digest, view): content(alone.view(index, view))
        for index, image in enumerate(labelled)
        for view in PLAN.all_views()
    }
    fresh = dataset(images)
    places = [(index, view) for index in range(COUNT) for view in PLAN.all_views()]
    seen = {place: content(fresh.view(*place)) for place in places}
    again = dataset(images, cache=cache)
    order.shuffle(places)
    for index, view in places:
        found = content(again.view(index, view))
        assert found == seen[index, view]
        assert found == expected.get((images[index].digest, view), found)


def test_worker_processes_do_not_count(pictures):
    images = [*pictures[True][:4], *pictures[False][4:]]
    places = [(epoch, index) for epoch in range(8) for index in range(COUNT)]
    expected = [content(dataset(images)[place]) for place in places[::7]]
    loader = DataLoader(dataset(images), batch_size=None, sampler=places[::7], num_workers=2)
    assert [content(sample) for sample in loader] == expected


@pytest.mark.parametrize("gains", [{}, {"mosaic": 0.5, "degrees": 20.0, "perspective": 0.0005, "hsv_v": 0.4}])
def test_a_labelled_set_gives_ultralytics_own_pixels(pictures, gains):
    """Ultralytics itself draws from the whole set where the set is in memory; the key's seeds are all that is ours.

    Not so the closing views, which are letterboxed pictures: see test_views.py.
    """
    from kd_steps.adapters.yolo.views import LabelledDataset, seeded

    images = pictures[True]
    ours = dataset(images, **gains)
    plain = LabelledDataset(images, augment=True, **options("ram", **gains))
    mosaics = [view for view in PLAN.all_views() if not view.closing]
    assert len(mosaics) == PLAN.views
    for index, image in enumerate(images):
        for view in mosaics:
            with seeded(view_key(image.digest, view, SEED, DIGEST)):
                reference = plain.transforms(plain.get_image_and_label(index))
            found = ours.view(index, view)
            assert torch.equal(found["img"], reference["img"])
            assert torch.equal(found["bboxes"], reference["bboxes"])
            assert torch.equal(found["cls"], reference["cls"])


def test_a_picture_without_objects_is_not_one_without_labels(pictures):
    bare = replace(pictures[True][0], class_ids=np.zeros(0, np.int64), boxes_xywh=np.zeros((0, 4), np.float32))
    source = dataset([bare, *pictures[True][1:5], *pictures[False][5:]])
    assert source.view(0, View(False, 0))["labelled"] is True
    assert source.view(5, View(False, 0))["labelled"] is False


@settings(deadline=None, max_examples=10)
@given(kinds=KINDS)
def test_a_batch_says_which_samples_have_labels(pictures, kinds):
    from kd_steps.adapters.yolo.views import ViewDataset

    source = dataset([pictures[kind][number] for number, kind in enumerate(kinds)])
    batch = ViewDataset.collate_fn([source[2, index] for index in range(COUNT)])
    assert batch["labelled"].dtype == torch.bool
    assert batch["labelled"].tolist() == kinds
    assert batch["labelled"][batch["batch_idx"].long()].all(), "objects stand in labelled samples only"
    assert batch["img"].shape == (COUNT, 3, SIDE_PX, SIDE_PX)


def test_a_lone_unlabelled_picture_mixes_with_itself(pictures):
    source = dataset([*pictures[True], pictures[False][4]], scale=0.0, translate=0.0)
    assert all(colours(source.view(COUNT, view)) == {170} for view in PLAN.all_views())


def test_pictures_in_memory_are_not_said_to_make_a_training_random(pictures):
    """As they do in Ultralytics' own data set, whose mosaics then depend on what was read before."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.utils import LOGGER

    from kd_steps.adapters.yolo.views import LabelledDataset

    class Own(YOLODataset):
        get_img_files, get_labels = LabelledDataset.get_img_files, LabelledDataset.get_labels

        def __init__(self, images, **settings):
            self.images = images
            super().__init__(img_path=[], task="detect", **settings)

    said = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())
    LOGGER.addHandler(listener)
    try:
        told = {}
        for kind in (Own, LabelledDataset):
            said.clear()
            settings = options("ram")
            assert kind(pictures[True], augment=True, **settings).ims[0] is not None
            told[kind] = "non-deterministic" in "".join(said)
            assert settings["hyp"].deterministic is True
    finally:
        LOGGER.removeHandler(listener)
    assert told == {Own: True, LabelledDataset: False}
