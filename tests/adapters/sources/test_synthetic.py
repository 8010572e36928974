import hashlib
import pickle
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kd_steps.adapters.sources.synthetic import GOOD_EVERY, JPEG_QUALITY, load_synthetic
from kd_steps.core.data.source import SourceSet
from kd_steps.core.synthetic.components import FAULT_CLASSES, TOMBSTONE


def small_set(seed: int = 0, image_size_px: int = 128, train_boards: int = 12) -> SourceSet:
    return load_synthetic(
        train_boards=train_boards,
        test_boards=10,
        defect_free_boards=4,
        new_part_boards=5,
        new_classes=[TOMBSTONE],
        image_size_px=image_size_px,
        seed=seed,
    )


def digests(source: SourceSet) -> dict[str, str]:
    return {image.image_id: hashlib.sha256(image.read()).hexdigest() for image in reversed(source.images)}


def decoded(encoded: bytes) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


def encoded_like_a_picture(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def test_same_seed_same_bytes_in_any_order_and_in_another_process() -> None:
    here = {image.image_id: hashlib.sha256(image.read()).hexdigest() for image in small_set().images}
    assert digests(small_set()) == here
    script = (
        "import hashlib\n"
        "from kd_steps.adapters.sources.synthetic import load_synthetic\n"
        "s = load_synthetic(train_boards=12, test_boards=10, defect_free_boards=4, new_part_boards=5,"
        " new_classes=['tombstone'], image_size_px=128, seed=0)\n"
        "print({i.image_id: hashlib.sha256(i.read()).hexdigest() for i in s.images})\n"
    )
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(here)


def test_another_seed_gives_other_pictures() -> None:
    assert not set(digests(small_set(0)).values()) & set(digests(small_set(1)).values())


def test_more_boards_leave_the_first_ones_as_they_are() -> None:
    few, more = small_set(train_boards=64), small_set(train_boards=72)
    same = {i.image_id: i.boxes_xyxy_px.tolist() for i in few.images}
    assert all(same[i.image_id] == i.boxes_xyxy_px.tolist() for i in more.images if i.image_id in same)
    assert few.images[5].read() == more.images[5].read()


def test_reading_survives_a_pickle_to_a_worker_process() -> None:
    image = small_set().images[0]
    assert pickle.loads(pickle.dumps(image.read))() == image.read()
    assert image.template is not None
    assert np.array_equal(pickle.loads(pickle.dumps(image.template))(), image.template())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**40), st.integers(64, 320))
def test_boxes_lie_inside_and_classes_match(seed: int, image_size_px: int) -> None:
    source = small_set(seed, image_size_px)
    assert len({image.image_id for image in source.images}) == len(source.images)
    for image in source.images:
        boxes = image.boxes_xyxy_px
        assert boxes.shape == (len(image.class_names), 4)
        assert boxes.dtype == np.float64
        assert (boxes >= 0).all()
        assert (boxes <= image_size_px).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert set(image.class_names) <= set(source.classes)
        if image.split == "defect_free":
            assert not image.class_names
        elif not image.image_id.startswith("train"):
            assert image.class_names
    training = [bool(image.class_names) for image in source.images if image.image_id.startswith("train")]
    assert training == [number % GOOD_EVERY != GOOD_EVERY - 1 for number in range(len(training))]


def test_pictures_decode_at_the_size_asked_for_in_small_files() -> None:
    source = small_set(image_size_px=256)
    for image in source.images[:4]:
        assert len(image.read()) < 80_000
        assert decoded(image.read()).shape == (256, 256, 3)


def test_the_new_class_shows_only_on_new_part_and_test_pictures() -> None:
    source = load_synthetic(
        train_boards=80,
        test_boards=60,
        defect_free_boards=10,
        new_part_boards=20,
        new_classes=[TOMBSTONE],
        image_size_px=256,
        seed=4,
    )
    assert source.classes == FAULT_CLASSES
    series = {name: [i for i in source.images if i.image_id.startswith(name)] for name in ("train", "new", "test")}
    assert [i.split for i in series["new"]] == ["train"] * 20
    assert not any(TOMBSTONE in i.class_names for i in series["train"])
    assert all(TOMBSTONE in i.class_names for i in series["new"])
    assert sum(TOMBSTONE in i.class_names for i in series["test"]) >= 15
    for name in ("train", "test"):
        counts = Counter(c for i in series[name] for c in i.class_names)
        shares = [counts[c] / len(series[name]) for c in FAULT_CLASSES if c != TOMBSTONE]
        assert min(shares) > 0.3
    faults = [len(i.class_names) for i in series["train"] if i.class_names]
    assert min(faults) >= 1
    assert 2 <= np.mean(faults) <= 5


def test_no_board_is_in_two_splits_and_boards_have_several_pictures() -> None:
    source = load_synthetic(
        train_boards=40,
        test_boards=40,
        defect_free_boards=40,
        new_part_boards=16,
        new_classes=[TOMBSTONE],
        image_size_px=64,
        seed=0,
    )
    splits_of: dict[str, set[str]] = {}
    for image in source.images:
        splits_of.setdefault(image.group, set()).add(str(image.split))
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert Counter(i.group for i in source.images).most_common(1)[0][1] == 4


def test_the_template_of_a_picture_is_the_same_field_without_its_faults() -> None:
    shadow_blur_and_jpeg_block_px = 14 + 16
    for image in small_set(image_size_px=256).images[:6]:
        assert image.template is not None
        template = decoded(encoded_like_a_picture(np.asarray(image.template(), np.uint8)))
        difference = cv2.absdiff(decoded(image.read()), template).max(axis=2)
        elsewhere = difference.copy()
        for x1, y1, x2, y2 in image.boxes_xyxy_px.astype(int):
            assert (difference[y1:y2, x1:x2] > 25).mean() > 0.08
            reach = shadow_blur_and_jpeg_block_px
            elsewhere[max(0, y1 - reach) : y2 + reach, max(0, x1 - reach) : x2 + reach] = 0
        assert elsewhere.max() == 0


def test_a_size_below_the_smallest_part_is_refused_by_key() -> None:
    with pytest.raises(ValueError, match=r"prepare.source.synthetic.image_size_px: must be at least 64 px, got 32"):
        small_set(image_size_px=32)


def test_without_new_classes_tombstone_is_a_base_class_like_the_others() -> None:
    source = load_synthetic(
        train_boards=60,
        test_boards=0,
        defect_free_boards=0,
        new_part_boards=9,
        new_classes=[],
        image_size_px=256,
        seed=0,
    )
    assert len(source.images) == 60
    counts = Counter(c for i in source.images for c in i.class_names)
    assert min(counts[c] for c in FAULT_CLASSES) > 20


def test_any_class_can_be_the_new_one() -> None:
    source = load_synthetic(
        train_boards=30,
        test_boards=0,
        defect_free_boards=0,
        new_part_boards=6,
        new_classes=["solder_bridge", "wrong_polarity"],
        image_size_px=256,
        seed=0,
    )
    new = [i for i in source.images if i.image_id.startswith("new")]
    assert len(new) == 12
    base = {c for i in source.images if i.image_id.startswith("train") for c in i.class_names}
    assert base == set(FAULT_CLASSES) - {"solder_bridge", "wrong_polarity"}
    assert all("solder_bridge" in i.class_names for i in new[::2])
    assert all("wrong_polarity" in i.class_names for i in new[1::2])


@pytest.mark.parametrize(
    ("new_classes", "message"),
    [(["tombstoen"], r"\['tombstoen'\] unknown.*tombstone"), (list(FAULT_CLASSES), "every class")],
)
def test_new_classes_that_cannot_be_held_out_are_refused(new_classes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"prepare.new_parts.classes: .*{message}"):
        load_synthetic(
            train_boards=1,
            test_boards=1,
            defect_free_boards=1,
            new_part_boards=1,
            new_classes=new_classes,
            image_size_px=64,
            seed=0,
        )
