"""An engine's files become an engine folder: golden pictures with outputs, parity with its reference, manifest."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kd_steps.adapters.files import write_json
from kd_steps.edge.contract import PreprocessingContract
from kd_steps.edge.engines import open_engine
from kd_steps.edge.golden import GOLDEN_FILE, write_golden
from kd_steps.edge.manifest import MANIFEST_FILE, Golden, Manifest, digest_of, this_machine
from kd_steps.edge.postprocess import OutputFormat, output_errors
from kd_steps.edge.preprocess import Preprocessor

LIBRARIES = ("retort", "ultralytics", "torch", "onnx", "onnxslim", "onnxruntime", "openvino", "numpy")


Role = Literal["teacher", "student", "base_student"]


class ParityError(ValueError):
    """A built engine gives other outputs than the network it was made from."""


@dataclass(frozen=True)
class Network:
    """A trained detector.

    Attributes:
        role: ``teacher``, ``student``, or ``base_student``: the student before it learnt new parts.
        weights: the checkpoint.
        sha256: of the checkpoint.
        classes: all class names, in the order of the outputs.
        columns: the class number of each output column.
        new_classes: those of them learnt from few shots.
        contract: the preprocessing it was trained with.
        parameters: number of weights.
    """

    role: Role
    weights: Path
    sha256: str
    classes: tuple[str, ...]
    columns: tuple[int, ...]
    new_classes: tuple[str, ...]
    contract: PreprocessingContract
    parameters: int


@dataclass(frozen=True)
class Target:
    """What a target is, how near it must come to what it was made from, and how it is made.

    Attributes:
        name: as in ``export.targets``.
        runtime: the Python package that runs it.
        precision: number type of the stored weights.
        inference_precision: number type of the multiplications.
        portable: whether it runs on any architecture and system that its runtime knows.
        golden_tolerance: largest difference allowed when the golden pictures are run again.
        reference: what its outputs are compared with: ``torch`` or ``onnx-fp32``.
        parity: whether the largest or the mean difference is limited. Rounded weights move the box of an anchor
            that sees nothing by many pixels, which nobody ever sees; so only float is held to the largest.
        parity_limit: the limit; see :func:`kd_steps.edge.postprocess.output_errors` for the unit.
        derive: writes the model files into a folder, from the parent's ``.onnx`` and from calibration inputs, each of
            shape (1, 3, imgsz_px, imgsz_px); None for the parent itself, which is made from the network.
    """

    name: str
    runtime: Literal["onnxruntime", "openvino"]
    precision: str
    inference_precision: str
    portable: bool
    golden_tolerance: float
    reference: Literal["torch", "onnx-fp32"]
    parity: Literal["largest", "mean"]
    parity_limit: float
    derive: Callable[[Path, Path, Iterator[NDArray[np.float32]]], None] | None = None


def complete_engine(
    folder: Path,
    name: str,
    target: Target,
    network: Network,
    output_format: OutputFormat,
    pictures_bgr: Sequence[NDArray[np.uint8]],
    references: Sequence[NDArray[np.float32]],
) -> list[NDArray[np.float32]]:
    """Run a built engine on the golden pictures, compare, and write ``golden.npz`` and ``manifest.json`` beside it.

    Args:
        folder: holds the engine's own files and nothing else.
        name: the engine's name.
        target: what it is.
        network: what it was made from.
        output_format: of its raw output.
        pictures_bgr: golden pictures, uint8 of shape (height, width, 3).
        references: for each picture, the raw output to compare with.

    Returns:
        The engine's raw outputs.

    Raises:
        ParityError: they are too far from the references.
    """
    suffix = ".onnx" if target.runtime == "onnxruntime" else ".xml"
    engine = open_engine(folder / f"model{suffix}", target.runtime, 1, target.inference_precision)
    preprocess = Preprocessor(network.contract)
    outputs = [engine.run(preprocess(picture)[0]) for picture in pictures_bgr]
    parity = _parity(name, target, network, output_format, outputs, references)
    write_golden(folder / GOLDEN_FILE, pictures_bgr, outputs)
    manifest = Manifest(
        name=name,
        target=target.name,
        runtime=target.runtime,
        role=network.role,
        state="built",
        files={path.name: digest_of(path) for path in sorted(folder.iterdir())},
        task="detect",
        classes=network.classes,
        columns=network.columns,
        new_classes=network.new_classes,
        contract=network.contract,
        output_format=output_format,
        parameters=network.parameters,
        precision=target.precision,
        inference_precision=target.inference_precision,
        source_sha256=network.sha256,
        versions=_versions(),
        target_profile=this_machine(target.runtime, portable=target.portable),
        golden=Golden(GOLDEN_FILE, len(outputs), target.golden_tolerance),
        parity=parity,
    )
    write_json(folder / MANIFEST_FILE, manifest.to_dict())
    return outputs


def _parity(
    name: str,
    target: Target,
    network: Network,
    output_format: OutputFormat,
    outputs: Sequence[NDArray[np.float32]],
    references: Sequence[NDArray[np.float32]],
) -> dict[str, Any]:
    """Differences to the references as JSON values; refuses an engine beyond its limit."""
    imgsz_px, wanted = network.contract.imgsz_px, 4 + len(network.classes)
    if output_format == "anchors" and outputs[0].shape[1] != wanted:
        raise ParityError(
            f"{network.weights}: the network gives {outputs[0].shape[1] - 4} classes, its sidecar names {wanted - 4}; "
            "`dvc repro` makes both again"
        )
    errors = np.concatenate(
        [output_errors(o, r, output_format, imgsz_px) for o, r in zip(outputs, references, strict=True)]
    )
    measured = {"largest": float(errors.max()), "mean": float(errors.mean())}
    if not measured[target.parity] <= target.parity_limit:
        raise ParityError(
            f"engine {name}: its outputs differ from {target.reference} by {measured[target.parity]:.3g} "
            f"({target.parity}, allowed {target.parity_limit:g}); leave {target.name} out of export.targets, or give "
            "more calibration pictures (export.calibration_images)"
        )
    errors_ = {"largest_error": measured["largest"], "mean_error": measured["mean"]}
    return {"reference": target.reference, **errors_, "limited": target.parity, "limit": target.parity_limit}


def _versions() -> dict[str, str]:
    """Versions of the libraries that shape an engine, where installed."""
    found = {}
    for library in (*LIBRARIES, "opencv-python-headless"):
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
