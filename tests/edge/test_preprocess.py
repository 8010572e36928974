"""The edge's preprocessing against Ultralytics' own, and the contract it refuses."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.data.augment import LetterBox

from kd_steps.edge.contract import ContractMismatchError, PreprocessingContract
from kd_steps.edge.preprocess import Preprocessor, UnreadablePictureError, letterbox, letterbox_geometry, read_picture

CONTRACT = PreprocessingContract(imgsz_px=96, letterbox_fill=114, augmentation_digest="")


@settings(max_examples=200, deadline=None)
@given(
    height_px=st.integers(1, 400),
    width_px=st.integers(1, 400),
    imgsz_px=st.sampled_from([32, 64, 96, 320]),
    fill=st.integers(0, 255),
    scale_up=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_letterbox_gives_the_bytes_of_ultralytics(height_px, width_px, imgsz_px, fill, scale_up, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    contract = replace(CONTRACT, imgsz_px=imgsz_px, letterbox_fill=fill, scale_up=scale_up)
    oracle = LetterBox((imgsz_px, imgsz_px), auto=False, center=True, scaleup=scale_up, padding_value=fill)
    assert np.array_equal(letterbox(image, contract)[0], oracle(image=image))


@settings(max_examples=40, deadline=None)
@given(height_px=st.integers(1, 300), width_px=st.integers(1, 300), seed=st.integers(0, 2**31))
def test_the_tensor_is_that_of_ultralytics_predictor(height_px, width_px, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    boxed = LetterBox((96, 96), auto=False)(image=image)
    oracle = torch.from_numpy(boxed)[None].permute(0, 3, 1, 2).flip(1).contiguous().float().div_(255)
    tensor, _ = Preprocessor(CONTRACT)(image)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert np.array_equal(tensor, oracle.numpy())


def test_mean_and_std_apply_to_rgb_channels_after_the_scale():
    image = np.zeros((96, 96, 3), np.uint8)
    image[:] = (10, 20, 30)  # B, G, R
    contract = replace(CONTRACT, scale=1.0, mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 7.0))
    tensor, _ = Preprocessor(contract)(image)
    assert tensor[0, :, 5, 5].tolist() == [29.0, 9.0, 1.0]


@settings(max_examples=200, deadline=None)
@given(height_px=st.integers(1, 2000), width_px=st.integers(1, 2000), data=st.data())
def test_boxes_find_their_way_back(height_px, width_px, data):
    geometry = letterbox_geometry(height_px, width_px, CONTRACT)
    x = sorted(data.draw(st.lists(st.floats(0, width_px), min_size=2, max_size=2)))
    y = sorted(data.draw(st.lists(st.floats(0, height_px), min_size=2, max_size=2)))
    box = np.array([[x[0], y[0], x[1], y[1]]])
    offset = np.array([geometry.left_px, geometry.top_px] * 2)
    there = (box * geometry.gain + offset).astype(np.float32)
    assert np.allclose(geometry.to_picture(there), box, atol=max(height_px, width_px) * 1e-5)


def test_boxes_are_clipped_to_the_picture_and_none_stay_none():
    geometry = letterbox_geometry(50, 100, CONTRACT)
    back = geometry.to_picture(np.array([[-40, -40, 900, 900]], np.float32))
    assert back.tolist() == [[0, 0, 100, 50]]
    assert geometry.to_picture(np.empty((0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interpolation", "cubic"),
        ("colour_order", "bgr"),
        ("channels", 1),
        ("dtype", "float16"),
        ("imgsz_px", 100),
        ("letterbox_fill", 256),
        ("scale", 0.0),
        ("mean", (0.0,)),
        ("mean", (0.0, float("nan"), 0.0)),
        ("std", (1.0, 0.0, 1.0)),
    ],
)
def test_a_contract_that_is_not_implemented_is_refused_by_field(field, value):
    with pytest.raises(ContractMismatchError, match=field):
        Preprocessor(replace(CONTRACT, **{field: value}))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match="height, width, 3"):
        Preprocessor(CONTRACT)(image)


def test_reading_pictures(tmp_path):
    good = tmp_path / "ä good.png"
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    good.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    assert np.array_equal(read_picture(good), image)
    broken = tmp_path / "broken.png"
    broken.write_bytes(good.read_bytes()[:20])
    with pytest.raises(UnreadablePictureError, match=r"broken\.png"):
        read_picture(broken)
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadablePictureError, match=r"empty\.png"):
        read_picture(tmp_path / "empty.png")
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_picture(tmp_path / "none.png")


@pytest.mark.parametrize(
    "image",
    [
        np.arange(12, dtype=np.uint8).reshape(4, 3),
        np.full((4, 3, 4), 9, np.uint8),
        np.full((4, 3), 4000, np.uint16),
    ],
    ids=["grey", "alpha", "16 bits"],
)
def test_a_picture_of_other_channels_or_depth_is_read_as_bgr(tmp_path, image):
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    found = read_picture(path)
    assert (found.dtype, found.shape) == (np.uint8, (4, 3, 3))
    expected = image if image.dtype == np.uint8 else image // 256
    assert np.array_equal(found, expected[..., :3] if image.ndim == 3 else np.stack([expected] * 3, axis=2))
