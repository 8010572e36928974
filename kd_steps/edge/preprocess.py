"""A picture becomes the network input that the contract describes, and boxes find their way back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kd_steps.edge.contract import ContractMismatchError, PreprocessingContract

IMPLEMENTED = {"interpolation": "linear", "colour_order": "rgb", "channels": 3, "dtype": "float32"}
COLOUR_PLANES_OF_BGR = (2, 1, 0)


class UnreadablePictureError(ValueError):
    """A picture that cannot be decoded; the message names the file and the mend."""


@dataclass(frozen=True)
class LetterboxGeometry:
    """Where a picture lies in the square network input.

    Attributes:
        width_px: width of the picture.
        height_px: height of the picture.
        gain: network pixels a picture pixel.
        left_px: network pixels left of the picture.
        top_px: network pixels above the picture.
        resized_width_px: width of the picture in the network input.
        resized_height_px: height of the picture in the network input.
    """

    width_px: int
    height_px: int
    gain: float
    left_px: int
    top_px: int
    resized_width_px: int
    resized_height_px: int

    def to_picture(self, boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes of the network input, shape (n, 4), into the picture and clip them to it."""
        offset = np.array([self.left_px, self.top_px] * 2, dtype=np.float32)
        limit = np.array([self.width_px, self.height_px] * 2, dtype=np.float32)
        boxes_px: NDArray[np.float32] = (boxes_xyxy_px - offset) / np.float32(self.gain)
        return np.clip(boxes_px, np.float32(0), limit)


class Preprocessor:
    """The contract, made ready to run: tables and checks are done once, not for every picture.

    Args:
        contract: what the network was trained with.

    Raises:
        ContractMismatchError: the contract asks for something this code does not do; the message names the field.
    """

    def __init__(self, contract: PreprocessingContract) -> None:
        _require_implemented(contract)
        self.contract = contract
        self._tables = _value_tables(contract)

    def __call__(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.float32], LetterboxGeometry]:
        """Letterbox, reorder and scale one picture.

        Args:
            image_bgr: uint8 of shape (height, width, 3), OpenCV's channel order.

        Returns:
            The tensor, float32 of shape (1, 3, imgsz_px, imgsz_px), and where the picture lies in it.

        Raises:
            ValueError: the array is not such a picture.
        """
        boxed, geometry = letterbox(image_bgr, self.contract)
        side_px = self.contract.imgsz_px
        tensor = np.empty((1, 3, side_px, side_px), dtype=np.float32)
        planes = cv2.split(boxed)
        for channel, plane in enumerate(COLOUR_PLANES_OF_BGR):
            cv2.LUT(planes[plane], self._tables[channel], dst=tensor[0, channel])
        return tensor, geometry


def letterbox_geometry(height_px: int, width_px: int, contract: PreprocessingContract) -> LetterboxGeometry:
    """Where a picture of this size lies in the network input.

    Sides round half to even and an odd border is larger below and to the right, as in Ultralytics' ``LetterBox``
    with ``auto=False`` and ``center=True``: half a pixel of difference would move every box.
    """
    side_px = contract.imgsz_px
    gain = min(side_px / height_px, side_px / width_px)
    if not contract.scale_up:
        gain = min(gain, 1.0)
    resized_width_px, resized_height_px = max(round(width_px * gain), 1), max(round(height_px * gain), 1)
    left_px = round((side_px - resized_width_px) / 2 - 0.1)
    top_px = round((side_px - resized_height_px) / 2 - 0.1)
    return LetterboxGeometry(width_px, height_px, gain, left_px, top_px, resized_width_px, resized_height_px)


def letterbox(
    image_bgr: NDArray[np.uint8], contract: PreprocessingContract
) -> tuple[NDArray[np.uint8], LetterboxGeometry]:
    """Fit a picture into the square network input and fill the rest.

    Args:
        image_bgr: uint8 of shape (height, width, 3).
        contract: gives the side, the fill and whether small pictures grow.

    Returns:
        uint8 of shape (imgsz_px, imgsz_px, 3), still BGR, and the geometry.

    Raises:
        ValueError: the array is not such a picture.
    """
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or 0 in image_bgr.shape:
        found = f"{image_bgr.dtype} of shape {image_bgr.shape}"
        raise ValueError(f"a picture must be uint8 of shape (height, width, 3) in BGR order, found {found}")
    height_px, width_px = image_bgr.shape[:2]
    geometry = letterbox_geometry(height_px, width_px, contract)
    size_px = (geometry.resized_width_px, geometry.resized_height_px)
    resized: NDArray[np.generic] = image_bgr
    if (width_px, height_px) != size_px:
        resized = cv2.resize(image_bgr, size_px, interpolation=cv2.INTER_LINEAR)
    side_px = contract.imgsz_px
    boxed = np.full((side_px, side_px, 3), contract.letterbox_fill, dtype=np.uint8)
    top_px, left_px = geometry.top_px, geometry.left_px
    boxed[top_px : top_px + size_px[1], left_px : left_px + size_px[0]] = resized
    return boxed, geometry


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Decode a picture file to BGR, uint8 of shape (height, width, 3).

    Raises:
        FileNotFoundError: there is no such file.
        UnreadablePictureError: the file is no picture that OpenCV decodes.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such picture") from error
    image = None
    with suppress(cv2.error):  # of some damaged headers, and of pictures of more than 2^30 pixels
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise UnreadablePictureError(f"{path}: not a picture that OpenCV can decode; replace or remove the file")
    return np.asarray(image, dtype=np.uint8)


def _value_tables(contract: PreprocessingContract) -> list[NDArray[np.float32]]:
    """For each channel, the network value of every uint8 value.

    Computed in float64 and rounded once: with scale 1/255 these are exactly the values of a float32 division by 255,
    which a multiplication by float32(1/255) misses for half of them.
    """
    values = np.arange(256, dtype=np.float64) * contract.scale
    return [((values - m) / s).astype(np.float32) for m, s in zip(contract.mean, contract.std, strict=True)]


def _require_implemented(contract: PreprocessingContract) -> None:
    faults = [
        f"{name} is {getattr(contract, name)!r}, this runtime implements {value!r}"
        for name, value in IMPLEMENTED.items()
        if getattr(contract, name) != value
    ]
    if contract.stride_px < 1 or contract.imgsz_px < 1 or contract.imgsz_px % contract.stride_px:
        faults.append(f"imgsz_px is {contract.imgsz_px}, not a multiple of stride_px {contract.stride_px}")
    if not 0 <= contract.letterbox_fill <= 255:
        faults.append(f"letterbox_fill is {contract.letterbox_fill}, not within 0-255")
    if not (np.isfinite(contract.scale) and contract.scale > 0):
        faults.append(f"scale is {contract.scale}, not a positive number")
    if len(contract.mean) != 3 or not np.isfinite(contract.mean).all():
        faults.append(f"mean is {contract.mean}, not three finite numbers")
    if len(contract.std) != 3 or not all(np.isfinite(s) and s > 0 for s in contract.std):
        faults.append(f"std is {contract.std}, not three positive numbers")
    if faults:
        raise ContractMismatchError(f"the preprocessing contract cannot be met: {'; '.join(faults)}")
