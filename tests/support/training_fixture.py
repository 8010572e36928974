"""A tiny project that the training stages run in: a few pictures, small networks, two or three epochs."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from prepared import CLASSES, NEW_CLASSES, list_classes, write_part_set, write_prepared

from kd_steps.params.types import GROUPS

REPOSITORY = Path(__file__).parents[2]
COUNTS = {"train": 8, "val": 2, "test": 2, "defect_free": 1}
SIZE_PX = (64, 64)
SMALL = {"architecture": "yolo11.yaml", "depth_multiple": 0.25, "width_multiple": 0.125, "max_channels": 512}
TRAINING = {
    **{"epochs": 2, "batch": 4, "nominal_batch": 4, "warmup_epochs": 0, "val_interval_epochs": 1, "model": SMALL},
    **{"optimizer": "SGD", "lr0": 0.01, "momentum": 0.937},
}
CHANGES = {
    "preprocessing": {"imgsz_px": 64},
    "compute": {"device": "cpu", "precision": "fp32", "cache_images": "none"},
    "train_teacher": {**TRAINING, "close_mosaic_fraction": 0.5},
    "cache_logits": {"batch": 3, "shard_views": 4},
    "distill": {**TRAINING, "close_mosaic_fraction": 0.5},
    "few_shot": {"epochs": 1, "batch": 4, "iterations_per_epoch": 2},
}


def write_params(root, **sections):
    """The repository's parameters, shrunk; ``sections`` changes more of them, a knob in a group by its name alone."""
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for changes in (CHANGES, sections):
        for name, section in changes.items():
            if isinstance(section, dict):
                put(values[name], section)
            else:
                values[name] = section
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def put(section, changes):
    """Change values of a section of params.yaml, whether they stand in it or in a group of it."""
    for name, value in changes.items():
        places = (section.get(group, {}) for group in GROUPS)
        next((place for place in places if name in place), section)[name] = value


def write_training_project(root, **sections):
    """Parameters and a prepared set of lossless pictures, without any model; returns ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    write_params(root, **sections)
    write_prepared(root / "data/prepared", COUNTS, SIZE_PX, ".png")
    list_classes(root, CLASSES + NEW_CLASSES)
    return root


def write_new_parts(root, names, shots=3):
    """A set of new parts whose pictures show the last of ``names``."""
    write_part_set(root / "data/new_parts/held_out", names, shots, 7_000)


def params_of(root):
    from kd_steps.params import load_params

    return load_params(root / "params.yaml")


def decided_model(seed=1, classes=CLASSES, architecture=None):
    """A detector with random weights whose scores spread over 0-1, so that it has something to say of every view."""
    import torch

    from kd_steps.adapters.yolo.models import ModelScale, build_model

    model = build_model(architecture or ModelScale(**SMALL), classes, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    head = model.model[-1]
    for branches in (head.cv3, getattr(head, "one2one_cv3", None) or []):
        for branch in branches:
            branch[-1].weight.data.mul_(4)
            branch[-1].bias.data.uniform_(-3, 0, generator=generator)
    return model.eval()


def write_model(root, kind, seed=1, classes=CLASSES):
    """A finished ``models/<kind>`` with a random detector, as the stage of that name leaves it."""
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.sidecar import write_sidecar
    from kd_steps.adapters.yolo.models import parameter_count, save_weights

    params, folder = params_of(root), root / "models" / kind
    folder.mkdir(parents=True, exist_ok=True)
    model = decided_model(seed, classes)
    save_weights(model, folder / "weights.pt")
    (folder / "results.csv").write_text("epoch,time\n1,1.0\n")
    contract = current_contract(params.preprocessing, params.augmentation)
    write_sidecar(folder, kind, "small", classes, (), parameter_count(model), contract, "d" * 64, {}, {})


def stage_command(stage):
    return [sys.executable, "-m", f"kd_steps.{stage}"]


def stage_environment(**more):
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}


def run_stage_in(root, stage, **environment):
    return subprocess.run(
        stage_command(stage),
        cwd=root,
        env=stage_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )


def enter_again(root, stage, *arguments):
    """Run a stage over finished work in a process that cannot import Ultralytics, and so builds no network."""
    code = f"import sys; sys.modules['ultralytics'] = None; from kd_steps.{stage} import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=root, env=stage_environment(), capture_output=True, text=True, check=False)


def tree_digest(folder):
    """Relative path → sha256 of everything below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kill_when(root, stage, path, arguments=(), **environment):
    """Start a stage in a process of its own and kill it (SIGKILL) as soon as a file is there; its number of signal."""
    with subprocess.Popen(
        [*stage_command(stage), *arguments],
        cwd=root,
        env=stage_environment(**environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while not (root / path).exists():
                if process.poll() is not None:
                    raise AssertionError(f"{stage} ended by itself before {path} was there")
                time.sleep(0.005)
        finally:
            process.kill()
    return -process.returncode
