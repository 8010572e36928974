"""A training that a kill may stop at any moment: gone on with, handed over once it is finished, never done twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kd_steps.adapters.files import swap_folder, write_document
from kd_steps.adapters.sidecar import WEIGHTS, Kind, Sidecar, read_sidecar, write_sidecar
from kd_steps.artifacts import OtherVersionError, read_json
from kd_steps.edge.contract import PreprocessingContract
from kd_steps.jobs.before_recipes import as_today
from kd_steps.jobs.fingerprint import Fingerprint
from kd_steps.params.training import ScaledModel, Training

FINGERPRINT = "fingerprint.json"
UNFINISHED = ("run", "resume")  # folders of a training under way


@dataclass(frozen=True)
class Network:
    """What is trained, as its sidecar tells it.

    Attributes:
        kind: of the sidecar.
        model: how a person would name it.
        classes: all class names, in the order of the outputs.
        new_classes: those of them learnt from few shots.
        contract: how a picture becomes its input.
        dataset_digest: of what it is trained on.
    """

    kind: Kind
    model: str
    classes: Sequence[str]
    new_classes: Sequence[str]
    contract: PreprocessingContract
    dataset_digest: str

    @property
    def called(self) -> str:
        """What it is, for people."""
        return "student with new parts" if self.kind == "few_shot" else self.kind.replace("_", " ")

    def write_sidecar(
        self,
        folder: Path,
        parameters: int,
        training: Mapping[str, Any],
        lineage: Mapping[str, Any],
        renamed_from: Sequence[str] = (),
    ) -> None:
        """Write the note of a folder's weight file."""
        write_sidecar(
            folder,
            self.kind,
            self.model,
            self.classes,
            self.new_classes,
            parameters,
            self.contract,
            self.dataset_digest,
            training,
            lineage,
            renamed_from,
        )


@dataclass(frozen=True)
class Fitting:
    """A training that is ready to begin.

    Attributes:
        fit: trains, or goes on where it was stopped; writes the weights; gives what it measured.
        architecture: of the network, as its library builds it.
        parameters: number of weights.
        lineage: digests of what the network is made from.
    """

    fit: Callable[[], Mapping[str, Any]]
    architecture: Mapping[str, Any]
    parameters: int
    lineage: Mapping[str, Any]


def train_once(
    folder: Path,
    made_of: Fingerprint,
    network: Network,
    ready: Callable[[], Fitting],
    renamed_from: Collection[str] = (),
) -> Mapping[str, Any]:
    """Train into a folder; or go on where a kill stopped the same training; or hand over what it finished.

    DVC keeps outputs marked ``persist`` across a kill *and* across a change of parameters, so the folder says itself
    what it was made from. A kill may come between the end of a training and DVC's record of it; the stage then runs
    again, and has nothing left to do. Where only the names of the classes changed, finished weights get the new ones.

    Args:
        folder: the output folder of a stage.
        made_of: what the weights depend on.
        network: what is trained.
        ready: builds the training, and raises where it cannot be had; asked only where something is left to do.
        renamed_from: sha256 of the weight files that ``made_of.learns_from`` is but for the names of its classes.

    Returns:
        What the training measured.
    """
    ready = cache(ready)
    wanted, sidecar = made_of.model_copy(update={"finished": True}), _sound_sidecar(folder)
    found = _found(folder, made_of, network, sidecar, ready)
    done = sidecar is not None and found is not None and found.finished
    if sidecar and _is_done(made_of, network.classes, found, sidecar):
        print(  # noqa: T201
            f"{folder}: this {network.called} is trained already, from the same data, parameters and recipe; "
            "remove the folder to train it anew"
        )
        write_document(folder / FINGERPRINT, wanted)  # one of before there were recipe numbers is told as today's are
    elif sidecar and done and found and wanted.differs_in_names_alone(found, renamed_from):
        print(f"{folder}: this {network.called} is trained already; only the names of its classes are others now")  # noqa: T201
        _rename(folder, sidecar, network, ready(), wanted)
    else:
        _train(folder, made_of, found, network, ready())
    for name in UNFINISHED:
        shutil.rmtree(folder / name, ignore_errors=True)
    return read_sidecar(folder).training


def finished_sidecar(folder: Path, made_of: Fingerprint, classes: Sequence[str]) -> Sidecar | None:
    """The note of a folder in which nothing is left to train, so that what it tells needs no network.

    Args:
        folder: the output folder of a stage.
        made_of: what the weights depend on.
        classes: all class names, in the order of the outputs.

    Returns:
        None where a training is to begin or go on, or names are to be mended; also at a fingerprint of before recipe
        numbers, which the stage writes anew.
    """
    sidecar = _sound_sidecar(folder)
    try:
        found = Fingerprint.read(folder / FINGERPRINT)
    except (OSError, ValueError):
        return None
    return sidecar if sidecar and _is_done(made_of, classes, found, sidecar) else None


def _is_done(made_of: Fingerprint, classes: Sequence[str], found: Fingerprint | None, sidecar: Sidecar) -> bool:
    return found == made_of.model_copy(update={"finished": True}) and sidecar.classes == tuple(classes)


def _train(folder: Path, made_of: Fingerprint, found: Fingerprint | None, network: Network, ready: Fitting) -> None:
    if found != made_of:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_document(folder / FINGERPRINT, made_of)
    elif any((folder / name).exists() for name in UNFINISHED):
        print(  # noqa: T201
            f"the training of this {network.called} was stopped here; it goes on after its last finished epoch"
        )
    measured = ready.fit()
    network.write_sidecar(folder, ready.parameters, measured, ready.lineage)
    write_document(folder / FINGERPRINT, made_of.model_copy(update={"finished": True}))


def _rename(folder: Path, sidecar: Sidecar, network: Network, ready: Fitting, made_of: Fingerprint) -> None:
    """Put a copy with other class names in the place of a finished folder."""
    from kd_steps.adapters.yolo.models import rename_classes

    renamed = folder.with_name(f".{folder.name}.renamed")
    shutil.rmtree(renamed, ignore_errors=True)
    shutil.copytree(folder, renamed, ignore=shutil.ignore_patterns(*UNFINISHED))
    rename_classes(folder / WEIGHTS, sidecar.sha256, network.classes, renamed / WEIGHTS)
    same = dict.fromkeys([*sidecar.renamed_from, sidecar.sha256])
    network.write_sidecar(renamed, sidecar.parameters, sidecar.training, ready.lineage, list(same))
    write_document(renamed / FINGERPRINT, made_of)
    swap_folder(renamed, folder)


def _found(
    folder: Path, made_of: Fingerprint, network: Network, sidecar: Sidecar | None, ready: Callable[[], Fitting]
) -> Fingerprint | None:
    """What a folder says that it was made from, as far as it can be read."""
    try:
        values = read_json(folder / FINGERPRINT)
        if "schema" in values:
            return Fingerprint.model_validate_json((folder / FINGERPRINT).read_bytes())
    except (OSError, ValueError, TypeError, ValidationError):
        return None
    return as_today(values, made_of, network.kind, sidecar, lambda: ready().architecture) if sidecar else None


def _sound_sidecar(folder: Path) -> Sidecar | None:
    """The note of a folder whose weights are those it describes.

    Raises:
        OtherVersionError: another release wrote it; what that finished is not to be trained over.
    """
    try:
        return read_sidecar(folder)
    except OtherVersionError:
        raise
    except (FileNotFoundError, ValueError):
        return None


def model_name(section: Training, weights: str | None = None) -> str:
    """How a person would name the model of a training."""
    if weights is not None:
        return weights
    model = section.model
    if isinstance(model, ScaledModel):
        return f"{Path(model.architecture).stem} (depth {model.depth_multiple}, width {model.width_multiple})"
    return Path(model).stem
