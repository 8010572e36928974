"""onnxruntime on a CPU in INT8: uint8 activations, int8 weights per channel, calibrated on training pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_steps.adapters.engines.folder import Target

# What lies between the convolutions is quantised too: with Q/DQ around convolutions alone the graph converts to float
# and back at every SiLU, and is no faster than float. Softmax is left out: attention needs its small values.
QUANTISED_OPERATORS = ("Conv", "MatMul", "Sigmoid", "Mul", "Add", "Concat", "Split", "MaxPool", "Resize")


def build_ort_cpu_int8(onnx_path: Path, out: Path, tensors: Iterator[NDArray[np.float32]]) -> None:
    """Quantise an ONNX graph statically, Q/DQ form.

    The last convolution of each head branch and all that follows (DFL, decoding) stay in float: there a step of the
    quantiser is a pixel of box or the whole difference between two scores.

    Args:
        onnx_path: the ``onnx-fp32`` engine.
        out: file to write.
        tensors: calibration inputs, each of shape (1, 3, imgsz_px, imgsz_px), from the train split.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # Shapes are fixed and the exporter has inferred them; symbolic inference adds nothing and stumbles on TopK.
        quant_pre_process(str(onnx_path), str(prepared), skip_symbolic_shape=True)
        model = onnx.load(prepared)
        quantize_static(
            str(prepared),
            str(out),
            _Reader(tensors, model.graph.input[0].name),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            nodes_to_exclude=decoding_nodes(model.graph),
            calibrate_method=CalibrationMethod.MinMax,
        )
    _copy_metadata(onnx_path, out)


def decoding_nodes(graph: Any) -> list[str]:
    """Names of the nodes from the last convolution of each head branch to the output, in the graph's order.

    Found by walking back from the output, so that no naming scheme of an exporter is relied on. A convolution with one
    output channel is DFL's weighted sum over the bins, part of the decoding; the walk goes on through it.

    Args:
        graph: an ``onnx.GraphProto`` of a detector.
    """
    producer = {name: node for node in graph.node for name in node.output}
    weight_shapes = {i.name: tuple(i.dims) for i in graph.initializer}
    found: set[str] = set()
    pending = [producer[o.name] for o in graph.output]
    while pending:
        node = pending.pop()
        if node.name in found:
            continue
        found.add(node.name)
        last_of_branch = node.op_type == "Conv" and weight_shapes.get(node.input[1], (0,))[0] != 1
        if not last_of_branch:
            pending += [producer[name] for name in node.input if name in producer]
    return [node.name for node in graph.node if node.name in found]


class _Reader:
    """Calibration inputs as onnxruntime asks for them: one dictionary a call, then None."""

    def __init__(self, tensors: Iterator[NDArray[np.float32]], input_name: str) -> None:
        self._tensors, self._input_name = tensors, input_name

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._input_name: tensor}


def _copy_metadata(source: Path, target: Path) -> None:
    """The quantiser keeps only its own properties; contract and classes are carried over."""
    import onnx

    model = onnx.load(target)
    properties = {p.key: p.value for m in (onnx.load(source), model) for p in m.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(properties.items())))
    onnx.save(model, target)


def _derive(parent: Path, folder: Path, calibration: Iterator[NDArray[np.float32]]) -> None:
    build_ort_cpu_int8(parent, folder / "model.onnx", calibration)


# Rounding differs with the processor's integer instructions: a step of the quantiser here and there.
TARGET = Target("ort-cpu-int8", "onnxruntime", "int8", "int8", False, 2e-2, "onnx-fp32", "mean", 2e-2, _derive)
