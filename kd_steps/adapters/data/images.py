"""Picture files: strict decoding, and the numbers measured on each picture (OpenCV, imagehash)."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from io import BytesIO

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from kd_steps.core.data.source import PictureFacts

HASH_SIDE_PX = 32
# In a JPEG's compressed data 0xFF is followed by 0x00 (a stuffed byte) or a restart marker; all else ends the scan.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Ultralytics, once imported, makes Pillow try a HEIF plug-in before it gives up, and fail for want of the plug-in.
_UNKNOWN = (UnidentifiedImageError, ModuleNotFoundError)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class PictureError(ValueError):
    """A picture file cannot be used; the message names the file and the mend."""


def decode_bgr(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a picture file to BGR, uint8 of shape (height, width, 3); an EXIF rotation is applied.

    OpenCV fills what is missing of a truncated file with grey and only prints a warning, so the file's structure is
    checked first.

    Raises:
        PictureError: empty, truncated, damaged, or not a picture.
    """
    if not data:
        raise PictureError(f"{name}: the file is empty; copy it again from its source, or delete it with its labels")
    if _is_truncated(data):
        raise PictureError(
            f"{name}: the picture is truncated after {len(data):,} bytes (its end is missing); copy it again from its "
            "source, or delete it with its labels"
        )
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # some damaged headers, and pictures of more than 2^30 pixels
        raise PictureError(f"{name}: OpenCV refuses it ({error.err}); convert it to PNG or JPEG, or cut it") from error
    if pixels is None:
        raise PictureError(f"{name}: not a picture that OpenCV can read, or damaged; convert it to PNG or JPEG")
    return np.asarray(pixels, dtype=np.uint8)


def measure(data: bytes, pixels: NDArray[np.uint8], name: str) -> PictureFacts:
    """The facts of one picture from its encoded bytes and its decoded BGR pixels (height, width, 3)."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    shape = np.array(pixels.shape, dtype=np.int64).tobytes()
    return PictureFacts(
        sha256=hashlib.sha256(data).hexdigest(),
        pixel_hash=hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest(),
        width_px=pixels.shape[1],
        height_px=pixels.shape[0],
        channels=_channels(data, name),
        phash=_perceptual_hash(np.asarray(grey, dtype=np.uint8)),
        brightness=float(mean.item()),
        contrast=float(deviation.item()),
    )


def encode_png(pixels: NDArray[np.uint8], channels: int) -> bytes:
    """PNG bytes of BGR pixels (height, width, 3); one channel if the picture was stored as grey."""
    done, data = cv2.imencode(".png", pixels[:, :, 0] if channels == 1 else pixels)
    if not done:
        raise PictureError(f"OpenCV could not encode a picture of shape {pixels.shape} as PNG")
    return data.tobytes()


def _perceptual_hash(grey: NDArray[np.uint8]) -> int:
    """64-bit DCT hash; shrunk by area first, which is faster than imagehash's own filter and hashes the same."""
    small = cv2.resize(grey, (HASH_SIDE_PX, HASH_SIDE_PX), interpolation=cv2.INTER_AREA)
    return int(str(imagehash.phash(Image.fromarray(small))), 16)


def _channels(data: bytes, name: str) -> int:
    try:
        with Image.open(BytesIO(data)) as header:
            return 3 if header.mode == "P" else len(header.getbands())
    except (*_UNKNOWN, OSError, Image.DecompressionBombError) as error:
        raise PictureError(
            f"{name}: the picture's header cannot be read: {error}; convert it to PNG or JPEG"
        ) from error


def _is_truncated(data: bytes) -> bool:
    if data.startswith(b"\xff\xd8"):
        return not _jpeg_ends(data)
    if data.startswith(_PNG_SIGNATURE):
        return not _png_ends(data)
    try:
        with Image.open(BytesIO(data)) as other:
            other.load()
    except (*_UNKNOWN, Image.DecompressionBombError):
        return False  # OpenCV may still know the format; if not, decode_bgr says so
    except (OSError, SyntaxError):
        return True
    return False


def _jpeg_ends(data: bytes) -> bool:
    """Whether the end marker follows the last scan (an embedded thumbnail has one of its own, inside a segment)."""
    at = 2
    while at + 4 <= len(data) or data[at : at + 2] == b"\xff\xd9":
        marker = data[at + 1]
        if data[at] != 0xFF:
            return False
        if marker == 0xD9:
            return True
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        if marker == 0xDA:
            end = _SCAN_END.search(data, at)
            if end is None:
                return False
            at = end.start()
    return False


def _png_ends(data: bytes) -> bool:
    """Whether every chunk is whole, with the right checksum, up to the end chunk."""
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        checksum = data[at + 8 + length : at + 12 + length]
        if len(checksum) < 4 or struct.unpack(">I", checksum)[0] != zlib.crc32(body):
            return False
        if body[:4] == b"IEND":
            return True
        at += 12 + length
    return False
