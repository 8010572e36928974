"""A whole small project: the repository's own pipeline on a params.yaml shrunk from the real one, under git and DVC."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from kd_steps.stage_entry import ENVIRONMENT

REPOSITORY = Path(__file__).parents[2]
FILE_TRACE = REPOSITORY / "tests/support/file_trace"
PARTS_OF_A_PROJECT = (
    *("dvc.yaml", "params.yaml", "prefect.toml", ".gitignore", ".dvcignore"),
    *(
        ".dvc/config",
        ".dvc/plots",
        "data/classes",
        "data/models",
        "data/raw",
        "data/new_parts/line",
        "data/bundles",
        "kd_steps",
        "flows",
        "expectations",
        "infra",
    ),
)
STAGES = (
    *("prepare", "validate", "train_teacher", "cache_logits", "distill", "few_shot"),
    *("export", "evaluate", "gate", "report", "register"),
)
# Of the tests' own process; without compiled files, each stage would compile its libraries anew.
UNSET = ("YOLO_CONFIG_DIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
# Fewer updates leave the running means of the normalisation near their start, and the network finds nothing at all.
TRAINING = {
    **{"model": "yolo11n.yaml", "epochs": 12},
    "training": {
        **{"optimizer": "AdamW", "lr0": 0.003, "warmup_epochs": 1},
        **{"batch": 4, "nominal_batch": 4, "val_interval_epochs": 12},
    },
}
# The real file's values that are changed; a test of a knob belongs to the stage's own tests.
SHRUNK: dict[str, Any] = {
    "preprocessing": {"imgsz_px": 96},
    "augmentation": {"mosaic": 0.3, "scale": 0.2},
    "prepare": {
        "source": {
            "synthetic": {"train_boards": 60, "test_boards": 40, "defect_free_boards": 4, "image_size_px": 128},
        },
        "new_parts": {"shots": 3},
    },
    "validate": {"parity_probes": 2},
    "train_teacher": TRAINING,
    "cache_logits": {"views": 2, "closing_views": 1, "shard_views": 32},
    "distill": {
        **TRAINING,
        "model": {"architecture": "yolo11.yaml", "depth_multiple": 0.34, "width_multiple": 0.125},
    },
    "few_shot": {"epochs": 1, "batch": 8, "lr0": 0.0005, "iterations_per_epoch": 4},
    "export": {"calibration_images": 16, "golden_images": 2},
    "evaluate": {"bootstrap_samples": 100, "latency": {"warm_up_s": 0.1, "rounds": 20, "seconds": 1.0}},
    # So little training finds little: the limits ask only that everything was measured.
    "gate": {
        "min_map_ratio": 0.0,
        "max_latency_ratio": 100.0,
        "min_compression_ratio": 1.0,
        "min_class_ap50": 0.0,
        "min_new_class_ap50": 0.0,
        "max_false_alarms_per_picture": 1000.0,
    },
    "report": {"sample_images": 2},
}


@dataclass(frozen=True)
class FinishedProject:
    """A project whose pipeline has run once, from nothing, under DVC.

    Attributes:
        root: its folder.
        output: what `dvc repro` said.
        seconds: what it took, wall clock.
        opened: stage → (whether it was opened for writing, path) of every file of the project that its Python opened.
    """

    root: Path
    output: str
    seconds: float
    opened: dict[str, set[tuple[bool, str]]]


def environment() -> dict[str, str]:
    """As the Makefile sets it, with this Python first and one thread, which for such small networks is as fast."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, **ENVIRONMENT, "PATH": path, "OMP_NUM_THREADS": "1"}


def run(root: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project, with ``more`` variables; what it says on both streams is in ``stdout``."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    return subprocess.run(command, cwd=root, env=environment() | more, check=False, **streams)


def dvc(root: Path, *arguments: str) -> str:
    """Run DVC in the project, which must succeed; returns what it said."""
    done = run(root, sys.executable, "-m", "dvc", *arguments)
    assert done.returncode == 0, f"dvc {' '.join(arguments)}: {done.returncode}\n{done.stdout}"
    return done.stdout


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Retort tests", "-c", "user.email=tests@example.invalid", "-c", "commit.gpgsign=false")
    done = run(root, "git", *who, *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout


def commit(root: Path, message: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)


def change_params(root: Path, changes: dict[str, Any]) -> None:
    """Change values that the project's params.yaml has; a key it does not have is an error."""
    yaml, path = YAML(), root / "params.yaml"
    params = yaml.load(path)
    _update(params, changes)
    yaml.dump(params, path)


def _update(values: Any, changes: dict[str, Any]) -> None:
    for key, new in changes.items():
        assert key in values, f"params.yaml has no {key!r} here: {list(values)}"
        if isinstance(new, dict) and isinstance(values[key], dict):
            _update(values[key], new)
        else:
            values[key] = new


def make_project(root: Path) -> Path:
    """The repository's pipeline with shrunk parameters, committed, nothing run yet."""
    root.mkdir(parents=True, exist_ok=True)
    for part in PARTS_OF_A_PROJECT:
        source, target = REPOSITORY / part, root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    change_params(root, SHRUNK)
    git(root, "init", "--quiet", "--initial-branch=main")
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    commit(root, "Start")
    return root


def tracing(root: Path, log: Path) -> dict[str, str]:
    """Variables that make a stage's process note in ``log``, as `stage, r or w, path`, what it opens in the project."""
    return {"RETORT_TEST_TRACE": str(log), "RETORT_TEST_ROOT": str(root), "PYTHONPATH": str(FILE_TRACE)}


def first_run(root: Path) -> FinishedProject:
    """Make a project, run its pipeline from nothing, and commit what DVC noted."""
    make_project(root)
    log, started = root.with_name(f"{root.name}-opened.tsv"), time.monotonic()
    done = run(root, sys.executable, "-m", "dvc", "repro", **tracing(root, log))
    assert done.returncode == 0, done.stdout
    seconds = time.monotonic() - started
    opened: dict[str, set[tuple[bool, str]]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        stage, mode, path = line.split("\t")
        opened.setdefault(stage, set()).add((mode == "w", path))
    return FinishedProject(root, done.stdout, seconds, opened)


def copy_project(source: Path, target: Path) -> Path:
    """A copy for a test that changes it; nothing is registered there."""
    left_out = shutil.ignore_patterns("mlflow.db", "mlartifacts")
    return Path(shutil.copytree(source, target, symlinks=True, ignore=left_out))


def ran(output: str) -> list[str]:
    """The stages that a `dvc repro` ran, in order, as its output says."""
    lines = output.splitlines()
    return [line.split("'")[1] for line in lines if line.startswith("Running stage '")]


def lock(root: Path) -> dict[str, Any]:
    """The stages of dvc.lock."""
    return dict(YAML(typ="safe").load(root / "dvc.lock")["stages"])


def read(root: Path, path: str) -> Any:
    return json.loads((root / path).read_text(encoding="utf-8"))


def stages_of(root: Path, params: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Stage → its entry in dvc.yaml, templates filled from params.yaml or ``params``; `foreach` gives one an item."""
    yaml = YAML(typ="safe")
    params = yaml.load(root / "params.yaml") if params is None else params
    found = {}
    for name, stage in yaml.load(root / "dvc.yaml")["stages"].items():
        if "foreach" not in stage:
            found[name] = _filled(stage, params)
            continue
        items = _looked_up(stage["foreach"][2:-1], params)
        pairs = items.items() if isinstance(items, dict) else [(item, item) for item in items]
        found |= {f"{name}@{key}": _filled(stage["do"], {**params, "key": key, "item": item}) for key, item in pairs}
    return found


def _filled(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\$\{([\w.]+)\}", lambda found: str(_looked_up(found[1], values)), value)
    if isinstance(value, dict):
        return {_filled(key, values): _filled(item, values) for key, item in value.items()}
    return [_filled(item, values) for item in value] if isinstance(value, list) else value


def _looked_up(path: str, values: Any) -> Any:
    for part in path.split("."):
        values = values[part]
    return values


def outs_of(root: Path, params: dict[str, Any] | None = None) -> dict[str, list[str]]:
    """Stage → the paths that dvc.yaml declares as its outputs."""
    return {
        name: [
            next(iter(out)) if isinstance(out, dict) else out
            for kind in ("outs", "metrics", "plots")
            for out in stage.get(kind, [])
        ]
        for name, stage in stages_of(root, params).items()
    }


def versions(root: Path) -> dict[str, list[str]]:
    """Registered model → its versions, as MLflow's store of the project has them."""
    os.environ.update(ENVIRONMENT)
    from mlflow import MlflowClient

    with chdir(root):
        client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
        found: dict[str, list[str]] = {}
        for version in client.search_model_versions():
            found.setdefault(version.name, []).append(str(version.version))
    return {name: sorted(numbers) for name, numbers in found.items()}
