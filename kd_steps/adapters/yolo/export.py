"""Ultralytics: a trained detector becomes an ONNX graph, and gives the outputs that the graph is compared with."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.models.yolo.model import YOLO

from kd_steps.adapters.yolo.models import head_geometry
from kd_steps.adapters.yolo.runtime import quiet


class ExportError(ValueError):
    """A weight file cannot be exported; the message names it and the mend."""


def export_onnx(weights: Path, out: Path, imgsz_px: int, opset: int) -> None:
    """Write the fused detector as ONNX: one picture, fixed size, raw output without NMS, simplified.

    Args:
        weights: an Ultralytics checkpoint of a detector. Nothing is written beside it.
        out: the ONNX file to write.
        imgsz_px: side of the square input.
        opset: ONNX operator set.

    Raises:
        ExportError: the file is no such checkpoint, or Ultralytics cannot export it.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Ultralytics writes its files beside the weights, so it gets weights of its own.
        copy = Path(folder) / "weights.pt"
        if weights.is_file():
            shutil.copyfile(weights, copy)
        options = {"imgsz": imgsz_px, "opset": opset, "dynamic": False, "nms": False, "simplify": True}
        try:
            with quiet():  # its advice names a temporary folder as the result
                made = _load(copy, weights).export(format="onnx", device="cpu", verbose=False, **options)
        except ExportError:
            raise
        except Exception as error:  # whatever torch, onnx or Ultralytics raise in the middle of a trace
            raise ExportError(f"{weights}: cannot be exported to ONNX: {error}") from error
        shutil.copyfile(made, out)


def raw_outputs(weights: Path, tensors: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """What the network gives in torch, float32 on the CPU: the reference that its ONNX graph must meet.

    Args:
        weights: an Ultralytics checkpoint of a detector.
        tensors: network inputs, each of shape (1, 3, imgsz_px, imgsz_px).

    Returns:
        An array for each input, of shape (1, 4 + classes, anchors), or (1, n, 6) from an end-to-end head.

    Raises:
        ExportError: the file is no such checkpoint.
    """
    network = _load(weights, weights).model.float().eval()
    if head_geometry(network).end2end:
        network.end2end = True
    outputs = []
    with torch.inference_mode():
        for tensor in tensors:
            output = network(torch.from_numpy(tensor))
            outputs.append((output[0] if isinstance(output, (tuple, list)) else output).numpy())
    return outputs


def is_end_to_end(weights: Path) -> bool:
    """Whether the exported head gives final detections, shape (1, n, 6), and needs no NMS.

    Raises:
        ExportError: the file is no detector's checkpoint.
    """
    return head_geometry(_load(weights, weights).model).end2end


def _load(path: Path, named: Path) -> Any:
    """The Ultralytics model of a checkpoint; faults name ``named``."""
    if not path.is_file():  # Ultralytics would look for a file of that name elsewhere, and on the network
        raise ExportError(f"{named}: no such weight file; `dvc repro` makes it")
    try:
        model = YOLO(str(path), task="detect")
    except Exception as error:  # torch and pickle raise many kinds on a damaged file
        raise ExportError(f"{named}: not a readable Ultralytics checkpoint ({error}); train it again") from error
    if model.task != "detect":
        raise ExportError(f"{named}: a model for {model.task!r}, not a detector")
    return model
