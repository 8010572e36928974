"""OpenVINO: an ONNX graph becomes an IR with weights stored in fp16."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd_steps.adapters.engines.folder import Target
from kd_steps.edge.engines import openvino_core, quiet_openvino


def build_openvino_fp16(onnx_path: Path, out_xml: Path) -> None:
    """Write ``out_xml`` and the ``.bin`` beside it.

    The graph is read by OpenVINO's own core, which does the same as its conversion tool.

    Args:
        onnx_path: the ``onnx-fp32`` engine.
        out_xml: file to write, ending in ``.xml``.
    """
    openvino = quiet_openvino()

    model = openvino_core().read_model(str(onnx_path))
    for index, operation in enumerate(model.get_ordered_ops()):
        # A node that the ONNX graph did not name is numbered by a counter of the process, which would change the bytes.
        if operation.get_friendly_name() == operation.get_name():
            operation.set_friendly_name(f"unnamed_{index}")
    openvino.save_model(model, str(out_xml), compress_to_fp16=True)


def _derive(parent: Path, folder: Path, _calibration: Iterator[NDArray[np.float32]]) -> None:
    build_openvino_fp16(parent, folder / "model.xml")


# Computed in f32, which every CPU has; left open, OpenVINO picks bf16 on some machines and not on others.
TARGET = Target("openvino-fp16", "openvino", "fp16", "f32", False, 1e-3, "onnx-fp32", "mean", 2e-3, _derive)
