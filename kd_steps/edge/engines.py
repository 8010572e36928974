"""The inference runtimes, behind one small protocol. A runtime is imported only when an engine of its kind opens."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray


class EngineError(ValueError):
    """A runtime cannot open or run an engine; the message names the file and the mend."""


class Engine(Protocol):
    """One opened network.

    Attributes:
        inference_precision: number type of the multiplications as the runtime reports it, such as ``f32``.
    """

    inference_precision: str

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw output for one tensor of shape (1, 3, imgsz_px, imgsz_px)."""
        ...


def quiet_openvino() -> Any:
    """The package OpenVINO, which reports home from a thread as soon as it is imported, with its reporting left out.

    It does without where the reporting package is missing.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))  # how Python marks a module that cannot be imported
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """The one core of OpenVINO in this process, which stays until its end.

    A core takes the thread's signal stack, and as it goes puts back the one that it found. Where several go in another
    order than they came, that one is gone already, and the next signal that Python handles ends the process.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    return quiet_openvino().Core()


class OrtEngine:
    """An ONNX file in onnxruntime on the CPU.

    Args:
        model_path: the ``.onnx`` file.
        threads: threads of one operator.
        inference_precision: what the manifest says the graph computes in.

    Raises:
        EngineError: onnxruntime refuses the file.
    """

    def __init__(self, model_path: Path, threads: int, inference_precision: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Idle threads that spin take the processor from the engine that is measured next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(model_path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            raise EngineError(f"{model_path}: onnxruntime cannot open it: {error}; export the engine again") from error
        self._input_name: str = self._session.get_inputs()[0].name
        self.inference_precision = inference_precision

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        output = self._session.run(None, {self._input_name: tensor})[0]
        return np.asarray(output, dtype=np.float32)


class OpenVinoEngine:
    """An OpenVINO IR (``.xml`` with its ``.bin`` beside it) on the CPU.

    Args:
        model_path: the ``.xml`` file.
        threads: inference threads.
        inference_precision: ``f32``, ``f16`` or ``bf16``. Always set: left alone, OpenVINO computes in bf16 where the
            CPU has it and the same engine gives other numbers on another machine.

    Raises:
        EngineError: OpenVINO refuses the file, or computes in another precision than asked.
    """

    def __init__(self, model_path: Path, threads: int, inference_precision: str) -> None:
        core = openvino_core()
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": inference_precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled = core.compile_model(str(model_path), "CPU", options)
        except RuntimeError as error:
            raise EngineError(f"{model_path}: OpenVINO cannot open it: {error}; export the engine again") from error
        reported = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if reported != inference_precision:
            raise EngineError(
                f"{model_path}: asked OpenVINO for {inference_precision}, it computes in {reported}; "
                "export the engine for this machine"
            )
        self._request = compiled.create_infer_request()
        self.inference_precision = inference_precision

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        self._request.infer([tensor], share_inputs=True)
        # A copy: the runtime writes the next output into the same memory.
        return np.array(self._request.get_output_tensor(0).data, dtype=np.float32)


def open_engine(model_path: Path, runtime: str, threads: int, inference_precision: str) -> Engine:
    """Open a verified engine file in its runtime.

    Raises:
        EngineError: the runtime is unknown here, not installed, or refuses the file.
    """
    if threads < 1:
        raise EngineError(f"threads is {threads}; give at least 1")
    try:
        if runtime == "onnxruntime":
            return OrtEngine(model_path, threads, inference_precision)
        if runtime == "openvino":
            return OpenVinoEngine(model_path, threads, inference_precision)
    except ImportError as error:
        raise EngineError(f"{model_path} needs {runtime}, which is not installed: {error}") from error
    raise EngineError(f"{model_path} needs the runtime {runtime!r}; known here: onnxruntime, openvino")
