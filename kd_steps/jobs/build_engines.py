"""Trained networks become engines: the parent from the network, every other target from the parent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kd_steps.adapters.data.part_sets import new_classes, read_part_sets
from kd_steps.adapters.engines.folder import Network, ParityError, Role, Target, complete_engine
from kd_steps.adapters.engines.targets import PARENT, TARGETS
from kd_steps.adapters.engines.targets.onnx_fp32 import build_onnx_fp32
from kd_steps.adapters.files import write_document
from kd_steps.adapters.sidecar import SIDECAR, WEIGHTS, read_sidecar
from kd_steps.artifacts import DatasetCard, LeftOut, paths
from kd_steps.core.data.ledger import Ledger
from kd_steps.edge.contract import require_same
from kd_steps.edge.preprocess import Preprocessor, read_picture
from kd_steps.params.export import Export

if TYPE_CHECKING:
    from kd_steps.edge.postprocess import OutputFormat


@dataclass(frozen=True)
class Models:
    """Folders of the networks: the teacher, the student, and the student before it learnt new parts."""

    teacher: Path
    student: Path
    base_student: Path


@dataclass(frozen=True)
class Golden:
    """Golden pictures, uint8 of shape (height, width, 3), and what a network says of each, in which format."""

    pictures_bgr: Sequence[NDArray[np.uint8]]
    outputs: Sequence[NDArray[np.float32]]
    output_format: OutputFormat


def build_engines(
    prepared: Path, parts: Path, models: Models, ledger: Ledger, engines: Path, knobs: Export, seed: int
) -> None:
    """Build every target of the student, and the parent's target of the networks it is compared with.

    A target that gives other outputs than its parent is left out with a warning, and its reason written down: whether
    it is required is for the gate to say.

    Raises:
        FileNotFoundError: a network or the prepared pictures are missing.
        ValueError: networks that do not fit each other or the data; a parent that gives other outputs than its network.
    """
    from kd_steps.adapters.yolo.export import export_onnx

    teacher = read_network(models.teacher, "teacher", ledger)
    student = read_network(models.student, "student", ledger)
    require_same(teacher.contract, student.contract, str(models.student / SIDECAR))
    base_names = tuple(known.name for known in DatasetCard.read(prepared / paths.DATASET_CARD).classes)
    require_names_of_data(teacher, models.teacher, base_names, prepared)
    require_names_of_data(student, models.student, base_names, prepared)
    require_names_of_parts(student, models.student, parts, ledger)
    floats = {"teacher": teacher, PARENT.name: student}
    if student.new_classes:  # what few-shot training gave and took shows only beside what there was before
        before = read_network(models.base_student, "base_student", ledger)
        require_names_of_data(before, models.base_student, base_names, prepared)
        floats["student-before"] = before
    pictures = [read_picture(path) for path in _evenly(picture_paths(prepared, "val"), knobs.golden_images)]
    train = picture_paths(prepared, "train")
    count = min(knobs.calibration_images, len(train))
    chosen = [train[i] for i in np.sort(np.random.default_rng(seed).choice(len(train), count, replace=False))]
    derived, parent = [TARGETS[name] for name in knobs.targets if name != PARENT.name], engines / PARENT.name

    shutil.rmtree(engines, ignore_errors=True)
    engines.mkdir(parents=True)
    left_out: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        tqdm(total=len(floats) + len(derived), desc="export", unit="engine") as progress,
    ):
        golden = {}
        for name, network in floats.items():
            progress.set_postfix_str(name)
            graph = Path(scratch) / f"{name}.onnx"
            export_onnx(network.weights, graph, network.contract.imgsz_px, knobs.opset)
            golden[name] = build_parent(engines / name, graph, network, pictures)
            progress.update()
        for target in derived:
            progress.set_postfix_str(target.name)
            try:
                build_derived(engines / target.name, parent, target, student, golden[PARENT.name], chosen)
            except ParityError as error:
                left_out[target.name] = str(error)
                tqdm.write(f"warning: {target.name} is left out: {error}")
            progress.update()
    write_document(engines / paths.LEFT_OUT, LeftOut(reasons=left_out))


def build_parent(folder: Path, graph: Path, network: Network, pictures_bgr: Sequence[NDArray[np.uint8]]) -> Golden:
    """Make an ``onnx-fp32`` engine of an exported graph, held to what torch gives.

    Returns:
        The engine's outputs for the golden pictures.
    """
    from kd_steps.adapters.yolo.export import is_end_to_end, raw_outputs

    preprocess, contract = Preprocessor(network.contract), network.contract
    references = raw_outputs(network.weights, [preprocess(picture)[0] for picture in pictures_bgr])
    torch = Golden(pictures_bgr, references, "end2end" if is_end_to_end(network.weights) else "anchors")
    partial = _partial(folder)
    build_onnx_fp32(graph, partial / "model.onnx", contract.to_dict(), contract.digest, network.classes)
    outputs = complete_engine(partial, folder.name, PARENT, network, torch.output_format, pictures_bgr, references)
    partial.rename(folder)
    return Golden(pictures_bgr, outputs, torch.output_format)


def build_derived(
    folder: Path, parent: Path, target: Target, student: Network, golden: Golden, calibration: Sequence[Path]
) -> None:
    """Make one engine of the student's parent engine, held to that engine's outputs.

    Raises:
        ParityError: it gives other outputs; nothing of it stays.
    """
    assert target.derive is not None
    partial = _partial(folder)
    target.derive(parent / "model.onnx", partial, _tensors(calibration, student))
    try:
        complete_engine(
            partial, folder.name, target, student, golden.output_format, golden.pictures_bgr, golden.outputs
        )
    except ParityError:
        shutil.rmtree(partial)
        raise
    partial.rename(folder)


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
    pictures = images[images["split"] == split].sort_values("image_id")["path"]
    if pictures.empty:
        raise ValueError(f"{table}: no picture in the split {split!r}, which export needs")
    return [prepared / path for path in pictures]


def read_network(folder: Path, role: Role, ledger: Ledger) -> Network:
    """The network of a model folder, its weights proved against their sidecar, its classes numbered by the ledger.

    Raises:
        FileNotFoundError: the sidecar is missing.
        LedgerError: it knows a class that is not in service.
        ValueError: the weights are not those of the sidecar.
    """
    note = read_sidecar(folder)
    return Network(
        role,
        folder / WEIGHTS,
        note.sha256,
        note.classes,
        tuple(ledger.number(name) for name in note.classes),
        note.new_classes,
        note.contract,
        note.parameters,
    )


def require_names_of_data(network: Network, folder: Path, names: Sequence[str], prepared: Path) -> None:
    """Refuse a network whose base classes are called otherwise than those of the prepared data.

    Raises:
        ValueError: they are; names both, and the mend.
    """
    _require_names("classes", folder, _base(network), names, prepared)


def require_names_of_parts(student: Network, folder: Path, parts: Path, ledger: Ledger) -> None:
    """Refuse a student whose new parts are called otherwise than those of the pictures it learnt them from.

    One without new parts ships no wrong name, whatever parts there are: they may show withdrawn classes alone.

    Raises:
        ValueError: they are; names both, and the mend.
    """
    if student.new_classes:
        names = new_classes(read_part_sets(parts, ledger, "the ledger"), _base(student), ledger)
        _require_names("new_classes", folder, student.new_classes, names, parts)


def _base(network: Network) -> tuple[str, ...]:
    """Its classes but those learnt from few shots."""
    return tuple(network.classes[: len(network.classes) - len(network.new_classes)])


def _require_names(key: str, folder: Path, found: Sequence[str], names: Sequence[str], data: Path) -> None:
    if list(found) != list(names):
        raise ValueError(
            f"{folder / SIDECAR}: {key} are {', '.join(found)}, those of {data} are {', '.join(names) or 'none'}, in "
            "this order; an engine would ship the wrong names. Run `dvc repro export`, not the stage alone: names that "
            "were mended reach the networks without a training"
        )


def _tensors(pictures: Sequence[Path], network: Network) -> Iterator[NDArray[np.float32]]:
    """Calibration inputs, one at a time, through the preprocessing of the edge."""
    preprocess = Preprocessor(network.contract)
    for path in tqdm(pictures, desc="calibrate", unit="picture", leave=False):
        yield preprocess(read_picture(path))[0]


def _evenly(pictures: Sequence[Path], count: int) -> list[Path]:
    """``count`` pictures spread over the whole list, or all of them."""
    picked = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int)
    return [pictures[i] for i in picked]


def _partial(folder: Path) -> Path:
    """An empty folder that takes the place of ``folder`` by one rename, when the engine is whole."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial
