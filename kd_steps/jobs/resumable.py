"""A training that a kill may stop at any moment: gone on with, handed over once it is finished, never done twice."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Mapping
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from kd_steps.adapters.files import read_json, sha256_of, write_json
from kd_steps.adapters.sidecar import Sidecar, read_sidecar
from kd_steps.edge.contract import canonical_digest

FINGERPRINT = "fingerprint.json"
UNFINISHED = ("run", "resume")  # folders of a training under way
LIBRARIES = ("ultralytics", "torch", "numpy")
PACKAGE = Path(__file__).parents[1]


def train_once(
    folder: Path, fingerprint: Mapping[str, Any], what: str, stage: str, train: Callable[[], None]
) -> Mapping[str, Any]:
    """Train into a folder; or go on where a kill stopped the same training; or hand over what it finished.

    DVC keeps outputs marked ``persist`` across a kill *and* across a change of parameters, so the folder says itself
    what it was made from, and, once finished, by which code. A kill may come between the end of a training and DVC's
    record of it; the stage then runs again, and has nothing left to do.

    Args:
        folder: the output folder of a stage.
        fingerprint: JSON values that name everything but the code that the weights depend on.
        what: what is trained, for people: "teacher".
        stage: the module whose code, with all that it imports, makes the weights: "kd_steps.train_teacher".
        train: trains, and writes weights and sidecar into the folder; a training that was stopped lies there.

    Returns:
        What the training measured.
    """
    note, finished = folder / FINGERPRINT, {**fingerprint, "made_by": code_digest(stage)}
    found = read_json(note) if note.exists() else None
    sidecar = _sound_sidecar(folder) if found == finished else None
    if sidecar is None:
        if found != fingerprint:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(note, fingerprint)
        elif any((folder / name).exists() for name in UNFINISHED):
            print(f"the training of this {what} was stopped here; it goes on after its last finished epoch")  # noqa: T201
        train()
        sidecar = read_sidecar(folder)
        write_json(note, finished)
    else:
        print(  # noqa: T201
            f"{folder}: this {what} is trained already, from the same data, parameters and code; "
            "remove the folder to train it anew"
        )
    for name in UNFINISHED:
        shutil.rmtree(folder / name, ignore_errors=True)
    return sidecar.training


def code_digest(module: str) -> str:
    """sha256 (hex) over the source files that a module of Retort needs and the versions of the libraries that train."""
    sources = {path.relative_to(PACKAGE).as_posix(): sha256_of(path) for path in sources_of(module)}
    return canonical_digest([sources, {name: importlib.metadata.version(name) for name in LIBRARIES}])


def sources_of(module: str) -> list[Path]:
    """Retort's source files that a module of it imports, directly or through others, within functions too; sorted."""
    finder = _OwnModules([str(PACKAGE.parent)])
    finder.import_hook(module)
    files = [getattr(found, "__file__", None) for found in finder.modules.values()]
    return sorted(Path(file) for file in files if file)


class _OwnModules(ModuleFinder):
    """Follows the imports of Retort's own modules only."""

    def import_hook(self, name: str, caller: Any = None, fromlist: Any = None, level: int = 0) -> Any:
        if name.partition(".")[0] == PACKAGE.name:
            return super().import_hook(name, caller, fromlist, level)
        return None


def _sound_sidecar(folder: Path) -> Sidecar | None:
    """The note of a folder whose weights are those it describes."""
    try:
        return read_sidecar(folder)
    except (FileNotFoundError, ValueError):
        return None
