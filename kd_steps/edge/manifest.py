"""What an engine folder says about itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kd_steps.edge.contract import ContractMismatchError, PreprocessingContract, canonical_digest
from kd_steps.edge.postprocess import OutputFormat

MANIFEST_FILE = "manifest.json"
RELEASE_FILE = "release.json"  # which a released engine has beside its manifest
SCHEMA = 3
ANY = "any"
RUNTIMES = ("onnxruntime", "openvino")
STATES = ("built", "verified-sim", "measured", "verified-device")
TASKS = ("detect",)
DIGESTS = ("contract_digest", "engine_digest")  # written beside the fields that they are taken of


class ManifestError(ValueError):
    """An engine folder is not what its manifest says; the message names the file and the mend."""


@dataclass(frozen=True)
class FileDigest:
    """sha256 (hex) and size of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class TargetProfile:
    """The machine an engine is made for.

    Attributes:
        arch: as ``platform.machine()`` gives it, or ``any``.
        os: as ``platform.system()`` gives it in lower case, or ``any``.
        runtime: the Python package that runs the engine.
        runtime_version: the version it was built and checked with: the least that will do, within its major version.
    """

    arch: str
    os: str
    runtime: str
    runtime_version: str


@dataclass(frozen=True)
class Golden:
    """Stored pictures with the raw outputs that the engine must give again.

    Attributes:
        file: name of the ``.npz`` in the engine's folder.
        images: pictures in it.
        tolerance: largest allowed difference, see :func:`kd_steps.edge.postprocess.output_errors`.
    """

    file: str
    images: int
    tolerance: float


@dataclass(frozen=True)
class Manifest:
    """All that is known of one engine; ``manifest.json`` holds these names.

    Attributes:
        name: the folder's name.
        target: what it was built for, such as ``ort-cpu-int8``.
        runtime: the Python package that runs it.
        role: ``teacher``, ``student``, or ``base_student``: the student before it learnt new parts.
        state: one of ``STATES``; ``export`` says ``built``, the rest is for those who run it.
        files: every file of the folder but the manifest.
        task: what the network does, ``detect``.
        classes: all class names, one for each column of the output, in its order.
        columns: the class number of each column: what the line, its reports and its controls know the class by.
        new_classes: those of them learnt from few shots.
        contract: the preprocessing contract.
        output_format: see :func:`kd_steps.edge.postprocess.decode`.
        parameters: weights of the network it was made from.
        precision: number type of the stored weights.
        inference_precision: number type the runtime is told to compute in.
        source_sha256: sha256 of the weight file it was made from.
        versions: libraries that made it.
        target_profile: the machine it is for.
        golden: the self-test.
        parity: what was compared with what when it was built, and how far apart they were.
    """

    name: str
    target: str
    runtime: str
    role: str
    state: str
    files: Mapping[str, FileDigest]
    task: str
    classes: tuple[str, ...]
    columns: tuple[int, ...]
    new_classes: tuple[str, ...]
    contract: PreprocessingContract
    output_format: OutputFormat
    parameters: int
    precision: str
    inference_precision: str
    source_sha256: str
    versions: Mapping[str, str]
    target_profile: TargetProfile
    golden: Golden
    parity: Mapping[str, Any]

    @property
    def model_file(self) -> str:
        """Name of the file that the runtime opens."""
        suffix = {"onnxruntime": ".onnx", "openvino": ".xml"}[self.runtime]
        names = [name for name in self.files if name.endswith(suffix)]
        if len(names) != 1:
            raise ManifestError(f"{self.name}: expected one {suffix} file in the manifest, found {names}")
        return names[0]

    @property
    def engine_digest(self) -> str:
        """sha256 (hex) of what the engine computes: model files, contract, task, classes, and how to run and read it.

        Not of how it was built, checked or judged, nor of the thresholds that a release adds.
        """
        return canonical_digest(
            {
                "files": {name: file.sha256 for name, file in self.files.items() if name != self.golden.file},
                "contract": self.contract.digest,
                "task": self.task,
                "classes": list(self.classes),
                "columns": list(self.columns),
                "output_format": self.output_format,
                "precision": [self.precision, self.inference_precision],
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values; :meth:`from_dict` gives the manifest back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {
            "files": {name: asdict(digest) for name, digest in sorted(self.files.items())},
            "classes": list(self.classes),
            "columns": list(self.columns),
            "new_classes": list(self.new_classes),
            "contract": self.contract.to_dict(),
            "contract_digest": self.contract.digest,
            "versions": dict(self.versions),
            "target_profile": asdict(self.target_profile),
            "golden": asdict(self.golden),
            "parity": dict(self.parity),
        }
        return {"schema": SCHEMA, "engine_digest": self.engine_digest, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Read JSON values.

        Raises:
            ManifestError: another schema, a field that is missing, unknown or has an impossible value, or an
                ``engine_digest`` that is not that of the other fields.
            ContractMismatchError: the contract is not the one that ``contract_digest`` was taken of.
        """
        if (schema := values.get("schema")) != SCHEMA:
            raise ManifestError(f"schema is {schema!r}, this runtime reads {SCHEMA}; export the engine again")
        known = {f.name for f in fields(cls)} | {"schema", *DIGESTS}
        if odd := sorted(known ^ set(values)):
            raise ManifestError(f"fields {odd} are missing or unknown; export the engine again")
        contract = PreprocessingContract.from_dict(values["contract"])
        if contract.digest != values["contract_digest"]:
            raise ContractMismatchError(
                f"contract has the digest {contract.digest}, contract_digest says {values['contract_digest']}; "
                "one of the two was changed, export the engine again"
            )
        rest = {k: v for k, v in values.items() if k not in ("schema", *DIGESTS)}
        rest |= {
            "files": {name: FileDigest(**digest) for name, digest in values["files"].items()},
            "classes": tuple(values["classes"]),
            "columns": tuple(values["columns"]),
            "new_classes": tuple(values["new_classes"]),
            "contract": contract,
            "target_profile": TargetProfile(**values["target_profile"]),
            "golden": Golden(**values["golden"]),
        }
        manifest = cls(**rest)
        _require_sane(manifest)
        if manifest.engine_digest != values["engine_digest"]:
            raise ManifestError(
                f"engine_digest is {values['engine_digest']}, its files, contract and classes give "
                f"{manifest.engine_digest}; one of them was changed, export the engine again"
            )
        return manifest


def read_manifest(engine_dir: Path) -> Manifest:
    """Read ``manifest.json`` of an engine folder; the files beside it are not looked at.

    Raises:
        FileNotFoundError: the folder has no manifest.
        ManifestError: the manifest is not valid; the message names the file.
        ContractMismatchError: the contract does not fit its digest.
    """
    path = engine_dir / MANIFEST_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ManifestError(f"expected an object, found {type(values).__name__}; export the engine again")
        return Manifest.from_dict(values)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path}: no such file; give an engine's folder, such as models/engines/onnx-fp32"
        ) from error
    except ContractMismatchError as error:
        raise ContractMismatchError(f"{path}: {error}") from error
    except (ManifestError, UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ManifestError(f"{path}: {error}") from error


def this_machine(runtime: str, *, portable: bool = False) -> TargetProfile:
    """The profile of this machine; ``portable`` leaves architecture and system open."""
    arch, system = (ANY, ANY) if portable else (platform.machine(), platform.system().lower())
    return TargetProfile(arch, system, runtime, importlib.metadata.version(runtime))


def digest_of(path: Path) -> FileDigest:
    """sha256 and size of a file."""
    with path.open("rb") as stream:
        return FileDigest(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def _require_sane(manifest: Manifest) -> None:
    """Refuse values that later code would trust."""
    if manifest.runtime not in RUNTIMES or manifest.runtime != manifest.target_profile.runtime:
        raise ManifestError(f"runtime {manifest.runtime!r} is not one of {RUNTIMES} and that of the target profile")
    if manifest.state not in STATES:
        raise ManifestError(f"state {manifest.state!r} is not one of {STATES}")
    if manifest.output_format not in ("anchors", "end2end"):
        raise ManifestError(f"output_format {manifest.output_format!r} is neither 'anchors' nor 'end2end'")
    if bad := [
        n for n in manifest.files if n in ("", ".", "..", MANIFEST_FILE, RELEASE_FILE) or re.search(r"[/\\\0]", n)
    ]:
        raise ManifestError(f"files {bad} are not plain names within the folder")
    if manifest.golden.file not in manifest.files:
        raise ManifestError(f"golden file {manifest.golden.file!r} is not among the files")
    if manifest.task not in TASKS:
        raise ManifestError(f"task {manifest.task!r} is not one of {TASKS}")
    if not manifest.classes or len(set(manifest.classes)) != len(manifest.classes):
        raise ManifestError(f"classes {list(manifest.classes)} are empty or repeat")
    if unknown := [name for name in manifest.new_classes if name not in manifest.classes]:
        raise ManifestError(f"new_classes {unknown} are not among the classes")
    numbers = manifest.columns
    if not len(numbers) == len(set(numbers)) == len(manifest.classes) or any(
        type(n) is not int or n < 0 for n in numbers
    ):
        raise ManifestError(f"columns {list(numbers)} do not give each class a number of its own, 0 or above")
