"""Stage ``export``: student and teacher become engines, each with a manifest and golden inputs and outputs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kd_steps.adapters.engines.folder import Build, Network, ParityError, Role, complete_engine
from kd_steps.adapters.sidecar import SIDECAR, WEIGHTS, read_sidecar
from kd_steps.edge.contract import require_same
from kd_steps.edge.manifest import OperatingPoint
from kd_steps.edge.preprocess import Preprocessor, read_picture
from kd_steps.params import Params, load_params
from kd_steps.stage_entry import run_stage

if TYPE_CHECKING:
    from kd_steps.edge.postprocess import OutputFormat

PREPARED = Path("data/prepared")
TEACHER, STUDENT, BASE_STUDENT = Path("models/teacher"), Path("models/few_shot"), Path("models/student")
ENGINES = Path("models/engines")

FLOAT = Build("onnx-fp32", "onnxruntime", "fp32", "f32", True, 1e-3, "torch", "largest", 1e-3)
DERIVED = {
    # Rounding differs with the processor's integer instructions: a step of the quantiser here and there.
    "ort-cpu-int8": Build("ort-cpu-int8", "onnxruntime", "int8", "int8", False, 2e-2, "onnx-fp32", "mean", 2e-2),
    # Computed in f32, which every CPU has; left open, OpenVINO picks bf16 on some machines and not on others.
    "openvino-fp16": Build("openvino-fp16", "openvino", "fp16", "f32", False, 1e-3, "onnx-fp32", "mean", 2e-3),
}


def main() -> None:
    """Read the networks, build every target, write ``models/engines``.

    A target that the gate does not require and that gives other outputs than its parent is left out, with a warning.
    """
    from kd_steps.adapters.yolo.export import export_onnx

    params = load_params()
    teacher, student = _network(TEACHER, "teacher", params), _network(STUDENT, "student", params)
    require_same(teacher.contract, student.contract, str(STUDENT / SIDECAR))
    floats = {"teacher": teacher, FLOAT.target: student}
    if student.new_classes:  # what few-shot training gave and took shows only beside what there was before
        floats["student-before"] = _network(BASE_STUDENT, "base_student", params)
    golden = [read_picture(p) for p in _evenly(picture_paths(PREPARED, "val"), params.export.golden_images)]
    train = picture_paths(PREPARED, "train")
    count = min(params.export.calibration_images, len(train))
    chosen = np.sort(np.random.default_rng(params.seed).choice(len(train), count, replace=False))
    derived = [target for target in params.export.targets if target != FLOAT.target]

    shutil.rmtree(ENGINES, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        tqdm(total=len(floats) + len(derived), desc="export", unit="engine") as progress,
    ):
        built = {}
        for name, network in floats.items():
            progress.set_postfix_str(name)
            graph = Path(scratch) / f"{name}.onnx"
            export_onnx(network.weights, graph, network.contract.imgsz_px, params.export.opset)
            built[name] = build_float(name, graph, network, golden)
            progress.update()
        for target in derived:
            progress.set_postfix_str(target)
            pictures = [train[i] for i in chosen]
            output_format, outputs = built[FLOAT.target]
            required = target in params.gate.required_targets
            derive(target, student, output_format, golden, outputs, pictures, required=required)
            progress.update()


def build_float(
    name: str, graph: Path, network: Network, golden: Sequence[NDArray[np.uint8]]
) -> tuple[OutputFormat, list[NDArray[np.float32]]]:
    """Make an ``onnx-fp32`` engine of an exported graph, held to what torch gives.

    Returns:
        The format of the raw outputs, and the engine's outputs for the golden pictures.
    """
    from kd_steps.adapters.engines.targets.onnx_fp32 import build_onnx_fp32
    from kd_steps.adapters.yolo.export import is_end_to_end, raw_outputs

    output_format: OutputFormat = "end2end" if is_end_to_end(network.weights) else "anchors"
    preprocess = Preprocessor(network.contract)
    references = raw_outputs(network.weights, [preprocess(picture)[0] for picture in golden])
    folder, contract = _partial(name), network.contract
    build_onnx_fp32(graph, folder / "model.onnx", contract.to_dict(), contract.digest, network.classes)
    outputs = complete_engine(folder, name, FLOAT, network, output_format, golden, references)
    folder.rename(ENGINES / name)
    return output_format, outputs


def derive(
    target: str,
    student: Network,
    output_format: OutputFormat,
    golden: Sequence[NDArray[np.uint8]],
    references: Sequence[NDArray[np.float32]],
    calibration: Sequence[Path],
    *,
    required: bool,
) -> None:
    """As :func:`build_derived`; an engine that nobody requires and that gives other outputs is left out, and told.

    Raises:
        ParityError: a required engine gives other outputs than its parent.
    """
    try:
        build_derived(target, student, output_format, golden, references, calibration)
    except ParityError as error:
        if required:
            raise
        shutil.rmtree(_partial_path(target))
        tqdm.write(f"warning: {target} is left out, the gate does not require it: {error}")


def build_derived(
    target: str,
    student: Network,
    output_format: OutputFormat,
    golden: Sequence[NDArray[np.uint8]],
    references: Sequence[NDArray[np.float32]],
    calibration: Sequence[Path],
) -> None:
    """Make one engine of the student's ``onnx-fp32``, held to that engine's outputs.

    Raises:
        ValueError: no builder for the target.
    """
    parent, folder = ENGINES / FLOAT.target / "model.onnx", _partial(target)
    if target == "ort-cpu-int8":
        from kd_steps.adapters.engines.targets.ort_cpu_int8 import build_ort_cpu_int8

        build_ort_cpu_int8(parent, folder / "model.onnx", _tensors(calibration, student))
    elif target == "openvino-fp16":
        from kd_steps.adapters.engines.targets.openvino_fp16 import build_openvino_fp16

        build_openvino_fp16(parent, folder / "model.xml")
    else:
        raise ValueError(f"export.targets: no builder for {target!r}; known: {FLOAT.target}, {', '.join(DERIVED)}")
    complete_engine(folder, target, DERIVED[target], student, output_format, golden, references)
    folder.rename(ENGINES / target)


def picture_paths(prepared: Path, split: str) -> list[Path]:
    """Files of a split in the order of their ids.

    Raises:
        FileNotFoundError: the picture table is missing.
        ValueError: the split is empty.
    """
    import pandas as pd

    table = prepared / "images.parquet"
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such file; `dvc repro prepare` makes it")
    images = pd.read_parquet(table, columns=["image_id", "split", "path"])
    paths = images[images["split"] == split].sort_values("image_id")["path"]
    if paths.empty:
        raise ValueError(f"{table}: no picture in the split {split!r}, which export needs")
    return [prepared / path for path in paths]


def _network(folder: Path, role: Role, params: Params) -> Network:
    """The network of a model folder, its weights proved against their sidecar, with the thresholds it is judged at."""
    note, knobs = read_sidecar(folder), params.evaluate
    return Network(
        role,
        folder / WEIGHTS,
        note.sha256,
        note.classes,
        note.new_classes,
        note.contract,
        note.parameters,
        OperatingPoint(knobs.operating_confidence, knobs.nms_iou, knobs.max_detections),
    )


def _tensors(paths: Sequence[Path], network: Network) -> Iterator[NDArray[np.float32]]:
    """Calibration inputs, one at a time, through the preprocessing of the edge."""
    preprocess = Preprocessor(network.contract)
    for path in tqdm(paths, desc="calibrate", unit="picture", leave=False):
        yield preprocess(read_picture(path))[0]


def _evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """``count`` paths spread over the whole list, or all of them."""
    picked = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [paths[i] for i in picked]


def _partial(name: str) -> Path:
    """An empty folder that becomes the engine's by one rename, when it is whole."""
    folder = _partial_path(name)
    folder.mkdir(parents=True)
    return folder


def _partial_path(name: str) -> Path:
    return ENGINES / f".{name}.partial"


if __name__ == "__main__":
    run_stage(main)
