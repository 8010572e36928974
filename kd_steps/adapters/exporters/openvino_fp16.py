"""OpenVINO: an ONNX graph becomes an IR with weights stored in fp16."""

from __future__ import annotations

from pathlib import Path

INFERENCE_PRECISION = "f32"  # what every CPU has; left open, OpenVINO picks bf16 on some machines and not on others


def build_openvino_fp16(onnx_path: Path, out_xml: Path) -> None:
    """Write ``out_xml`` and the ``.bin`` beside it.

    The graph is read by OpenVINO's own core: its conversion tool does the same and reports home.

    Args:
        onnx_path: the ``onnx-fp32`` engine.
        out_xml: file to write, ending in ``.xml``.
    """
    import openvino

    openvino.save_model(openvino.Core().read_model(str(onnx_path)), str(out_xml), compress_to_fp16=True)
