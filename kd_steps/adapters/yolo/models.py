"""Detectors of Ultralytics: built from an architecture, loaded from weights, described and extended."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics import settings
from ultralytics.nn.modules.head import Detect, v10Detect
from ultralytics.nn.tasks import DetectionModel, load_checkpoint, yaml_model_load
from ultralytics.utils.torch_utils import init_seeds

from kd_steps.adapters.files import atomic_path, sha256_of
from kd_steps.core.data.class_names import class_difference
from kd_steps.core.detect.class_rows import extend_class_rows

Detector = DetectionModel  # what stages call it: they know nothing of Ultralytics
OF_A_PLACE = {"args", "pt_path"}  # what Ultralytics attaches to a model: of a training, and of the file it came from
NEW_CLASS_PRIOR = 0.01  # score a new class starts with, as in the focal loss paper (arXiv 1708.02002)


class WeightsError(ValueError):
    """A weight file cannot be used; the message names it and the mend."""


class ArchitectureError(ValueError):
    """A model YAML cannot be used; the message names it and the mend."""


@dataclass(frozen=True)
class ModelScale:
    """An Ultralytics architecture at a compound scale of the caller's."""

    architecture: str
    depth_multiple: float
    width_multiple: float
    max_channels: int


@dataclass(frozen=True)
class HeadGeometry:
    """What teacher and student must share, and how boxes are coded."""

    strides_px: tuple[int, ...]
    bins: int
    end2end: bool


def switch_off_integrations() -> None:
    """Keep Ultralytics from starting tracking runs of its own and from phoning home."""
    names = ("sync", "mlflow", "dvc", "clearml", "comet", "raytune", "neptune", "wandb", "tensorboard", "hub")
    settings.update({name: False for name in names if name in settings})


def build_model(model: str | ModelScale, classes: Sequence[str], seed: int) -> DetectionModel:
    """A detector with fresh weights, the same for the same seed.

    Args:
        model: name of an Ultralytics detect model YAML, a path to one, or an architecture with a scale.
        classes: class names, in the order of the outputs.
        seed: of the initial weights.

    Raises:
        ArchitectureError: there is no such model YAML, or it does not describe a detector.
    """
    architecture = model.architecture if isinstance(model, ModelScale) else model
    config = _read_architecture(architecture)
    if isinstance(model, ModelScale):
        config["scales"] = {"r": [model.depth_multiple, model.width_multiple, model.max_channels]}
        config["scale"] = "r"
    Detect.legacy = False  # else YOLOv10 draws other weights after a YOLOv5 was built in the same process
    init_seeds(seed, deterministic=True)
    try:
        built = DetectionModel(config, nc=len(classes), verbose=False)
    except Exception as error:  # whatever a row makes Ultralytics or torch raise
        raise ArchitectureError(
            f"{architecture}: Ultralytics cannot build it ({type(error).__name__}: {error}); compare its rows, "
            "[from, repeats, module, arguments], with those of data/models/mobilenet.yaml"
        ) from error
    if type(built.model[-1]) not in (Detect, v10Detect):
        raise ArchitectureError(
            f"{architecture}: its last row is a {type(built.model[-1]).__name__}, but only detectors are trained; "
            "it must be a Detect or v10Detect head"
        )
    built.names = dict(enumerate(classes))
    return built


def _read_architecture(name: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = yaml_model_load(name)
    except FileNotFoundError as error:
        raise ArchitectureError(
            f"{name}: no such model YAML, neither a file here nor one of Ultralytics' own, such as yolo11n.yaml; check "
            "train_teacher.model and distill.model"
        ) from error
    return config


def load_weights(path: Path, expected_sha256: str | None) -> DetectionModel:
    """Load a detector from a ``.pt`` file whose bytes are known; weights are pickles and can run code.

    Raises:
        WeightsError: the file is missing, truncated, not the pinned one, or not a detector.
    """
    if not path.exists():
        raise WeightsError(f"{path}: no such weight file; check the path, or leave it null to train from a model YAML")
    found = sha256_of(path)
    if expected_sha256 is None:
        raise WeightsError(
            f"{path}: a foreign weight file is loaded only when its sha256 is pinned (weights are pickles and can run "
            f"code); if you trust it, set weights_sha256: {found}"
        )
    if found != expected_sha256:
        raise WeightsError(
            f"{path}: sha256 is {found}, pinned is {expected_sha256}; fetch the file again or pin the new one"
        )
    try:
        model, _ = load_checkpoint(path)
    except Exception as error:
        raise WeightsError(
            f"{path}: cannot be read as an Ultralytics weight file ({error}); it may be truncated"
        ) from error
    if not isinstance(model, DetectionModel):
        raise WeightsError(f"{path}: holds a {type(model).__name__}, not a detector")
    return model


def head_geometry(model: DetectionModel) -> HeadGeometry:
    """Strides, bins and kind of a detector's head."""
    head = model.model[-1]
    return HeadGeometry(
        strides_px=tuple(int(s) for s in head.stride),
        bins=int(head.reg_max),
        end2end=getattr(head, "one2one_cv2", None) is not None,
    )


def neck_channels(model: DetectionModel) -> tuple[int, ...]:
    """Channels of the neck's outputs, by level: what the head's box branches take in."""
    first = [next(m for m in branch.modules() if isinstance(m, nn.Conv2d)) for branch in model.model[-1].cv2]
    return tuple(conv.in_channels for conv in first)


def parameter_count(model: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in model.parameters())


def add_classes(model: DetectionModel, new_classes: Sequence[str]) -> DetectionModel:
    """Give a trained detector outputs for more classes; what it says of the old ones stays, to rounding.

    Returns:
        A new model; the old one is left as it is.
    """
    names = [*model.names.values(), *new_classes]
    return _with_class_layers(model, names, lambda conv: _wider(conv, len(new_classes)))


def pick_classes(model: DetectionModel, classes: Sequence[str]) -> DetectionModel:
    """Give a trained detector the outputs for these classes in this order; what it says of each stays, to rounding.

    Returns:
        A new model; the old one is left as it is.

    Raises:
        WeightsError: the detector does not know a class.
    """
    known = list(model.names.values())
    if missing := [name for name in classes if name not in known]:
        raise WeightsError(f"{class_difference(known, classes)}: it cannot answer for {missing} as it is")
    return _with_class_layers(model, classes, lambda conv: _picked(conv, [known.index(name) for name in classes]))


def for_classes(model: DetectionModel, classes: Sequence[str], seed: int) -> DetectionModel:
    """A detector to train on other classes: a trained one's weights, its class rows matched by name.

    Args:
        model: the trained detector.
        classes: class names, in the order of the outputs; rows of those that it does not know are fresh.
        seed: of the fresh rows.
    """
    init_seeds(seed, deterministic=True)
    fresh = DetectionModel(model.yaml, nc=len(classes), verbose=False)
    fresh.names = dict(enumerate(classes))  # Ultralytics matches by these, and copies row by row where nothing matches
    rows = [copy.deepcopy(conv.state_dict()) for conv in _class_layers(fresh)]
    fresh.load(model)
    if not {_plain(name) for name in model.names.values()} & {_plain(name) for name in classes}:
        for conv, row in zip(_class_layers(fresh), rows, strict=True):
            if conv.weight.shape == row["weight"].shape:
                conv.load_state_dict(row)
    return fresh


def _plain(name: str) -> str:
    """A class name as Ultralytics compares it."""
    return str(name).strip().lower()


def _class_layers(model: DetectionModel) -> list[Any]:
    """The last convolution of every class branch."""
    return [level[-1] for branch in _class_branches(model) for level in branch]


def _class_branches(model: DetectionModel) -> list[Any]:
    """The class branches of a head, each a list of layers a level."""
    found = [getattr(model.model[-1], name, None) for name in ("cv3", "one2one_cv3")]
    return [branch for branch in found if branch is not None]


def _with_class_layers(
    model: DetectionModel, names: Sequence[str], change: Callable[[nn.Conv2d], nn.Conv2d]
) -> DetectionModel:
    """A copy of a detector whose last class layers are changed and whose classes have these names."""
    changed = copy.deepcopy(model)
    for branch in _class_branches(changed):
        for level in branch:
            level[-1] = change(level[-1])
    head = changed.model[-1]
    head.nc = len(names)
    head.no = head.nc + head.reg_max * 4
    changed.yaml = {**changed.yaml, "nc": head.nc}
    changed.nc = head.nc
    changed.names = dict(enumerate(names))
    return changed


def _picked(conv: nn.Conv2d, rows: Sequence[int]) -> nn.Conv2d:
    assert conv.bias is not None  # the last convolution of a class branch always has one
    picked = nn.Conv2d(conv.in_channels, len(rows), kernel_size=1)
    picked.weight, picked.bias = nn.Parameter(conv.weight.data[rows]), nn.Parameter(conv.bias.data[rows])
    return picked


def _wider(conv: nn.Conv2d, more: int) -> nn.Conv2d:
    assert conv.bias is not None  # the last convolution of a class branch always has one
    weight, bias = extend_class_rows(conv.weight.data, conv.bias.data, more, NEW_CLASS_PRIOR)
    wider = nn.Conv2d(conv.in_channels, len(bias), kernel_size=1)
    wider.weight, wider.bias = nn.Parameter(weight), nn.Parameter(bias)
    return wider


def save_weights(model: DetectionModel, path: Path) -> None:
    """Write a plain Ultralytics checkpoint: nothing of Retort is needed to load it.

    Its bytes are those of the weights alone, so that its digest is the same wherever they were trained. The arguments
    of a training name its folder and whether it was resumed; Ultralytics attaches its own when it loads a checkpoint.
    """
    plain = copy.deepcopy(model).half().cpu()
    plain.__class__ = DetectionModel
    plain.criterion = None
    for name in OF_A_PLACE & vars(plain).keys():
        delattr(plain, name)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save({"model": plain, "epoch": -1, "train_args": {}}, stream)


def rename_classes(weights: Path, sha256: str, classes: Sequence[str], renamed: Path) -> None:
    """Write a weight file again with other names for its classes; every number in it stays.

    Args:
        weights: the weight file.
        sha256: of it.
        classes: the names that its outputs are to have, in their order.
        renamed: where the new file goes.

    Raises:
        WeightsError: the weight file cannot be used.
    """
    model = load_weights(weights, sha256)
    model.names = dict(enumerate(classes))
    save_weights(model, renamed)


def require_same_geometry(teacher: DetectionModel, student: DetectionModel) -> None:
    """Refuse a student whose anchors are not the teacher's: the cache names anchors by their number.

    Raises:
        ValueError: number of levels or strides differ.
    """
    mine, theirs = head_geometry(student).strides_px, head_geometry(teacher).strides_px
    if mine != theirs:
        raise ValueError(
            f"the student's head has {len(mine)} levels with strides {mine} px, the teacher's {len(theirs)} with "
            f"{theirs} px; choose a student in distill.model with the teacher's levels"
        )
