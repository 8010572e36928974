"""How Ultralytics makes a network input of a picture: in its predictor, and in its training loader.

Both are run as they are, so that `validate` can compare their tensors with the edge runtime's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import LetterBox
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.views import LabelledDataset
from kd_steps.core.data.sample import LabelledImage
from kd_steps.edge.contract import PreprocessingContract
from kd_steps.edge.preprocess import Preprocessor, letterbox_geometry, read_picture

INTERPOLATIONS = {cv2.INTER_NEAREST: "nearest", cv2.INTER_LINEAR: "linear", cv2.INTER_AREA: "area"}


class PredictorPath:
    """The path of a picture through Ultralytics' predictor, for one detector.

    Args:
        model: the detector; its stride and channels are its own, whatever the contract says.
        imgsz_px: side of the network input.
    """

    def __init__(self, model: DetectionModel, imgsz_px: int) -> None:
        options = {"imgsz": imgsz_px, "rect": False, "device": "cpu", "verbose": False, "save": False}
        self._predictor = DetectionPredictor(overrides=options)
        self._predictor.device = torch.device("cpu")
        self._predictor.model = AutoBackend(
            model=model.eval(), device=self._predictor.device, fuse=False, verbose=False
        )
        self._predictor.imgsz = [imgsz_px, imgsz_px]
        self._stride_px = int(max(model.stride))
        self._channels = int(model.yaml.get("channels", 3))

    def __call__(self, picture: Path) -> NDArray[np.float32]:
        """The network input of a picture file, float32 of shape (1, 3, side, side)."""
        tensor: NDArray[np.float32] = self._predictor.preprocess([read_picture(picture)]).numpy()
        return tensor

    def contract(self, expected: PreprocessingContract) -> PreprocessingContract:
        """What this path does, as a contract: ``expected`` with every field that Ultralytics decides itself."""
        box = LetterBox(self._predictor.imgsz)
        return replace(
            _with_letterbox(expected, box), stride_px=self._stride_px, channels=self._channels, scale_up=box.scaleup
        )


class TrainingLoaderPath:
    """The path of a picture through the training loader, without augmentation.

    Args:
        images: the pictures that will be asked for.
        imgsz_px: side of the network input.
    """

    def __init__(self, images: Sequence[LabelledImage], imgsz_px: int) -> None:
        self._index = {image.path: i for i, image in enumerate(images)}
        self._dataset = LabelledDataset(
            images, augment=False, rect=False, imgsz=imgsz_px, hyp=get_cfg(), cache=False, data={"channels": 3}
        )

    def __call__(self, picture: Path) -> NDArray[np.float32]:
        """The network input of a picture file, float32 of shape (1, 3, side, side)."""
        sample: dict[str, Any] = self._dataset[self._index[picture]]
        tensor: NDArray[np.float32] = (sample["img"][None].float() / 255).numpy()  # as the trainer's preprocess_batch
        return tensor

    def contract(self, expected: PreprocessingContract) -> PreprocessingContract:
        """What this path does, as a contract: ``expected`` with every field that Ultralytics decides itself."""
        box = next(step for step in self._dataset.transforms.transforms if isinstance(step, LetterBox))
        return _with_letterbox(expected, box)  # the loader has enlarged before this letterbox, which does not


def rounded_up_input(picture: Path, contract: PreprocessingContract) -> tuple[str, NDArray[np.float32]] | None:
    """The edge runtime's network input if the short side were rounded up, as Ultralytics' training loader does.

    The predictor rounds the scaled short side to the nearest pixel, the loader to the next larger one: the same scale,
    and a picture that is one pixel wider or higher in the network input. Which of the two a network was trained with
    can't be chosen in Ultralytics, so the difference has a name and is measured.

    Returns:
        The cause in words and the tensor; None for pictures where both round alike.
    """
    image_bgr = read_picture(picture)
    height_px, width_px = image_bgr.shape[:2]
    usual = letterbox_geometry(height_px, width_px, contract)
    gain = contract.imgsz_px / max(height_px, width_px)
    up_px = (min(math.ceil(width_px * gain), contract.imgsz_px), min(math.ceil(height_px * gain), contract.imgsz_px))
    if up_px == (usual.resized_width_px, usual.resized_height_px):
        return None
    resized = np.asarray(cv2.resize(image_bgr, up_px, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    tensor, _ = Preprocessor(contract)(resized)
    cause = (
        f"the loader rounds the short side up: {up_px[0]} × {up_px[1]} px in the network input, "
        f"elsewhere {usual.resized_width_px} × {usual.resized_height_px} px"
    )
    return cause, tensor


def _with_letterbox(expected: PreprocessingContract, box: LetterBox) -> PreprocessingContract:
    shape = box.new_shape if isinstance(box.new_shape, int) else max(box.new_shape)
    return replace(
        expected,
        imgsz_px=int(shape),
        letterbox_fill=box.padding_value,
        interpolation=INTERPOLATIONS.get(box.interpolation, str(box.interpolation)),
    )
