"""A measurement bundle: what one engine found and how long it took, on one machine, as a folder that can travel.

``bundle.json`` says what was measured, on which pictures, where and with what; ``detections.npz`` and ``latency.npz``
hold the numbers. The folder appears by one rename, when it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from kd_steps.edge.contract import canonical_digest
from kd_steps.edge.latency import PHASES
from kd_steps.edge.manifest import FileDigest, digest_of
from kd_steps.edge.postprocess import Found

BUNDLE_FILE, DETECTIONS_FILE, LATENCY_FILE = "bundle.json", "detections.npz", "latency.npz"
SCHEMA = 1
TIMED = ("engine", "reference", "reference-again")  # the last two are one engine: their ratio must contain 1
MEASURE_AGAIN = "measure again: python -m kd_steps.edge measure"


class BundleError(ValueError):
    """A measurement bundle is damaged, unfinished or of another version; the message names the file and the mend."""


@dataclass(frozen=True)
class BundleNote:
    """What ``bundle.json`` says.

    Attributes:
        name: of the engine.
        target: of the engine.
        engine_digest: of the engine, see :attr:`kd_steps.edge.manifest.Manifest.engine_digest`.
        reference_digest: of the engine whose times stand beside.
        pictures: name, split and sha256 of each picture, in the order that ``image`` counts.
        inputs: ``detections`` and ``latency``: all that the one and the other depend on, as JSON values.
        machine: see :func:`kd_steps.edge.identity.machine`.
        golden_error: largest difference to the golden outputs.
        load_before: load average before the latency rounds; None where the system counts none.
        load_after: and after them.
        attempts: how often in a row the latency of these inputs was measured; the last one is here.
    """

    name: str
    target: str
    engine_digest: str
    reference_digest: str
    pictures: list[list[str]]
    inputs: Mapping[str, Mapping[str, Any]]
    machine: Mapping[str, Any]
    golden_error: float
    load_before: float | None
    load_after: float | None
    attempts: int

    @property
    def load_per_core(self) -> float | None:
        """The higher of the two load averages, for each core of the machine."""
        loads = [load for load in (self.load_before, self.load_after) if load is not None]
        return max(loads) / int(self.machine["cores"]) if loads else None


@dataclass(frozen=True)
class Bundle:
    """A whole measurement of one engine.

    Attributes:
        note: what was measured, where and with what.
        found: raw detections on the pictures of the note, from the least score upwards.
        golden: the same on the golden pictures of the engine.
        times_ms: float64 of shape (rounds, 3, 4): engines as in ``TIMED``, then the phases.
    """

    note: BundleNote
    found: Found
    golden: Found
    times_ms: NDArray[np.float64]


def write_detections(folder: Path, found: Found, golden: Found, inputs: Mapping[str, Any]) -> None:
    """Write the detections' file, with the digest of what they depend on; same detections, same bytes."""
    arrays: dict[str, NDArray[Any]] = {field.name: getattr(found, field.name) for field in fields(Found)}
    arrays |= {f"golden_{field.name}": getattr(golden, field.name) for field in fields(Found)}
    arrays["inputs"] = np.array(canonical_digest(inputs))
    _write(folder / DETECTIONS_FILE, lambda path: np.savez_compressed(path, allow_pickle=False, **arrays))


def read_detections(folder: Path, inputs: Mapping[str, Any]) -> tuple[Found, Found]:
    """Detections on the pictures and on the golden pictures.

    Raises:
        BundleError: the file is missing or damaged, or the detections depend on something else than ``inputs``.
    """
    names = [field.name for field in fields(Found)]
    stored = _arrays(folder / DETECTIONS_FILE, ["inputs", *names, *(f"golden_{name}" for name in names)])
    if str(stored["inputs"]) != canonical_digest(inputs):
        raise BundleError(f"{folder / DETECTIONS_FILE}: made from something else; {MEASURE_AGAIN}")
    found = Found(*(stored[name] for name in names))
    return found, Found(*(stored[f"golden_{name}"] for name in names))


def write_bundle(folder: Path, unfinished: Path, note: BundleNote, times_ms: NDArray[np.float64]) -> None:
    """Complete a folder that holds the detections, and let it take the place of ``folder``."""
    _write(unfinished / LATENCY_FILE, lambda path: np.savez_compressed(path, allow_pickle=False, times_ms=times_ms))
    files = {name: asdict(digest_of(unfinished / name)) for name in (DETECTIONS_FILE, LATENCY_FILE)}
    text = json.dumps({"schema": SCHEMA, **asdict(note), "files": files}, indent=1, allow_nan=False) + "\n"
    _write(unfinished / BUNDLE_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def read_bundle(folder: Path) -> Bundle:
    """Read a measurement bundle.

    Raises:
        FileNotFoundError: there is none.
        BundleError: it is damaged, unfinished, or of another version.
    """
    path = folder / BUNDLE_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
            raise BundleError(f"{path}: not a measurement bundle of schema {SCHEMA}; {MEASURE_AGAIN}")
        files = {name: FileDigest(**digest) for name, digest in values.pop("files").items()}
        note = BundleNote(**values)
        inputs = note.inputs["detections"]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file; {MEASURE_AGAIN}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{path}: damaged ({error}); {MEASURE_AGAIN}") from error
    for name in (DETECTIONS_FILE, LATENCY_FILE):
        if not (folder / name).is_file() or digest_of(folder / name) != files.get(name):
            raise BundleError(f"{folder / name}: missing, or not the file that {BUNDLE_FILE} names; {MEASURE_AGAIN}")
    found, golden = read_detections(folder, inputs)
    times_ms = _arrays(folder / LATENCY_FILE, ["times_ms"])["times_ms"]
    if times_ms.ndim != 3 or times_ms.shape[1:] != (len(TIMED), len(PHASES)):
        raise BundleError(f"{folder / LATENCY_FILE}: times of shape {times_ms.shape}; {MEASURE_AGAIN}")
    return Bundle(note, found, golden, times_ms)


def _arrays(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise BundleError(f"{path}: damaged ({error}); {MEASURE_AGAIN}") from error


def _write(path: Path, write: Any) -> None:
    """A file that is there only when it is whole and on the disk."""
    partial = path.with_name(f".partial-{path.name}")
    write(partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)
