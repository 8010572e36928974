"""The note beside a weight file: what it knows, what it was made from, how a picture must reach it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kd_steps.adapters.files import sha256_of, write_json
from kd_steps.artifacts import paths, read_json, require_version
from kd_steps.edge.contract import PreprocessingContract
from kd_steps.params import Params

WEIGHTS, SIDECAR = paths.WEIGHTS, paths.SIDECAR
SCHEMA = 1  # which the notes of earlier releases are of, too, that do not say so


Kind = Literal["teacher", "assistant", "student", "plain_student", "few_shot"]


@dataclass(frozen=True)
class Sidecar:
    """What a weight file's note says.

    Attributes:
        kind: ``teacher``, ``assistant``, ``student``, ``plain_student`` or ``few_shot``.
        model: what it was built from.
        classes: all class names, in the order of the outputs.
        new_classes: those of them learnt from few shots.
        sha256: of the weight file.
        parameters: number of weights.
        contract: how a picture becomes its input.
        dataset_digest: of the prepared data set.
        training: what the training measured.
        lineage: digests of what it was made from.
        renamed_from: sha256 of the weight files that were this one but for the names of its classes.
    """

    kind: Kind
    model: str
    classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    sha256: str
    parameters: int
    contract: PreprocessingContract
    dataset_digest: str
    training: Mapping[str, Any]
    lineage: Mapping[str, Any]
    renamed_from: tuple[str, ...] = ()


def write_sidecar(
    folder: Path,
    kind: Kind,
    model: str,
    classes: Sequence[str],
    new_classes: Sequence[str],
    parameters: int,
    contract: PreprocessingContract,
    dataset_digest: str,
    training: Mapping[str, Any],
    lineage: Mapping[str, Any],
    renamed_from: Sequence[str] = (),
) -> None:
    """Write the note of ``folder``'s weight file."""
    write_json(
        folder / SIDECAR,
        {
            "schema": SCHEMA,
            "kind": kind,
            "model": model,
            "classes": list(classes),
            "new_classes": list(new_classes),
            "sha256": sha256_of(folder / WEIGHTS),
            "parameters": parameters,
            "contract": contract.to_dict(),
            "contract_digest": contract.digest,
            "dataset_digest": dataset_digest,
            "training": dict(training),
            "lineage": dict(lineage),
            "renamed_from": list(renamed_from),
            "versions": {name: importlib.metadata.version(name) for name in ("ultralytics", "torch", "numpy")},
        },
    )


def voices_beside(params: Params, sidecar: Sidecar) -> list[dict[str, Any]]:
    """Who answers beside a detector, and how much each counts: they stand beside the teacher, not an assistant."""
    more = params.cache_logits.more_teachers if sidecar.kind == "teacher" else []
    return [teacher.model_dump(exclude={"weights"}) for teacher in more]  # where a file lies does not count


def read_sidecar(folder: Path) -> Sidecar:
    """Read the note of ``folder``'s weight file, and hold the file to it.

    Raises:
        FileNotFoundError: the note is missing.
        OtherVersionError: the note is of another version.
        ValueError: the weight file is missing, or not the one that the note describes.
    """
    note = read_json(folder / SIDECAR)
    mend = f"use the release of Retort that wrote it, or remove {folder} and run `dvc repro`, which trains it anew"
    require_version(folder / SIDECAR, note, "a sidecar", SCHEMA, SCHEMA, mend)
    weights = folder / WEIGHTS
    if not weights.exists():
        raise ValueError(f"{weights}: missing, though its sidecar is there; run `dvc repro` or `dvc checkout`")
    if (found := sha256_of(weights)) != note["sha256"]:
        raise ValueError(f"{weights}: sha256 is {found}, its sidecar says {note['sha256']}; run `dvc checkout`")
    return Sidecar(
        kind=note["kind"],
        model=note["model"],
        classes=tuple(note["classes"]),
        new_classes=tuple(note["new_classes"]),
        sha256=note["sha256"],
        parameters=note["parameters"],
        contract=PreprocessingContract.from_dict(note["contract"]),
        dataset_digest=note["dataset_digest"],
        training=note["training"],
        lineage=note["lineage"],
        renamed_from=tuple(note.get("renamed_from", ())),  # the last releases wrote none
    )
