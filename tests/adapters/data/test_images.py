import hashlib
import random
from io import BytesIO
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kd_steps.adapters.data.images import PictureError, decode_bgr, encode_png, measure
from kd_steps.edge.preprocess import UnreadablePictureError, read_picture


def picture(side_px: int = 96, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (side_px, side_px + 16), interpolation=cv2.INTER_CUBIC)


def encoded(suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, picture(), list(options))[1].tobytes()


WHOLE = {
    "baseline JPEG": encoded(".jpg"),
    "progressive JPEG": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "JPEG with restart markers": encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "PNG": encoded(".png"),
    "BMP": encoded(".bmp"),
    "WebP": encoded(".webp"),
    "TIFF": encoded(".tiff"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_files_decode_as_opencv_does(kind: str) -> None:
    pixels = decode_bgr(WHOLE[kind], kind)
    np.testing.assert_array_equal(pixels, cv2.imdecode(np.frombuffer(WHOLE[kind], np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("width", [2**30, -(2**31)])
def test_a_damaged_header_that_opencv_raises_at_is_refused_by_name(width: int, tmp_path: Path) -> None:
    """On the line, too: there, one such picture must not end the run."""
    damaged = WHOLE["BMP"][:18] + width.to_bytes(4, "little", signed=True) + WHOLE["BMP"][22:]
    with pytest.raises(PictureError, match=r"board7\.bmp"):
        decode_bgr(damaged, "board7.bmp")
    (tmp_path / "board7.bmp").write_bytes(damaged)
    with pytest.raises(UnreadablePictureError, match=r"board7\.bmp"):
        read_picture(tmp_path / "board7.bmp")


@pytest.mark.parametrize("kind", WHOLE)
def test_every_truncation_is_refused_by_name(kind: str) -> None:
    data = WHOLE[kind]
    lengths = sorted(random.Random(0).sample(range(1, len(data) - 8), 40))
    for length in lengths:
        with pytest.raises(PictureError, match=r"board7\.jpg"):
            decode_bgr(data[:length], "board7.jpg")


def test_an_embedded_thumbnail_does_not_hide_a_truncation() -> None:
    thumbnail = encoded(".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = WHOLE["baseline JPEG"]
    with_thumbnail = whole[:2] + segment + whole[2:]
    assert decode_bgr(with_thumbnail, "a").shape == (112, 96, 3)
    with pytest.raises(PictureError, match="truncated"):
        decode_bgr(with_thumbnail[:-200], "a")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_picture_or_a_clear_error(data: bytes) -> None:
    try:
        told = f"x.jpg {decode_bgr(data, 'x.jpg').shape}"
    except PictureError as error:
        told = str(error)
    assert told.startswith("x.jpg")


def test_empty_file_and_other_content() -> None:
    with pytest.raises(PictureError, match=r"a\.jpg: the file is empty"):
        decode_bgr(b"", "a.jpg")
    with pytest.raises(PictureError, match=r"a\.jpg: not a picture"):
        decode_bgr(b"class 0.5 0.5", "a.jpg")


def test_facts_of_a_picture() -> None:
    pixels = picture()
    data = encode_png(pixels, 3)
    facts = measure(data, decode_bgr(data, "a"), "a")
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    assert (facts.width_px, facts.height_px, facts.channels) == (96, 112, 3)
    assert facts.sha256 == hashlib.sha256(data).hexdigest()
    assert facts.brightness == pytest.approx(grey.mean())
    assert facts.contrast == pytest.approx(grey.std())


def test_grey_is_stored_with_one_channel() -> None:
    grey = np.repeat(picture()[:, :, :1], 3, axis=2)
    data = encode_png(grey, 1)
    assert measure(data, decode_bgr(data, "a"), "a").channels == 1
    np.testing.assert_array_equal(decode_bgr(data, "a"), grey)


def test_pixel_hash_is_of_the_pixels_not_of_the_encoding() -> None:
    pixels = decode_bgr(WHOLE["baseline JPEG"], "a")
    jpeg, png = (measure(data, decode_bgr(data, "a"), "a") for data in (WHOLE["baseline JPEG"], encode_png(pixels, 3)))
    assert jpeg.pixel_hash == png.pixel_hash
    assert jpeg.sha256 != png.sha256


@pytest.mark.parametrize("seed", range(8))
def test_perceptual_hash_is_imagehash_s_within_two_bits(seed: int) -> None:
    pixels = picture(side_px=320, seed=seed)
    data = encode_png(pixels, 3)
    ours = measure(data, pixels, "a").phash
    theirs = int(str(imagehash.phash(Image.open(BytesIO(data)))), 16)
    assert (ours ^ theirs).bit_count() <= 2


def test_perceptual_hash_survives_recompression_and_tells_boards_apart() -> None:
    hashes = []
    for seed in (1, 2):
        for quality in (95, 40):
            data = cv2.imencode(".jpg", picture(320, seed), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            hashes.append(measure(data, decode_bgr(data, "a"), "a").phash)
    assert (hashes[0] ^ hashes[1]).bit_count() <= 4
    assert (hashes[0] ^ hashes[2]).bit_count() > 10
