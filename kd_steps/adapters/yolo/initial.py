"""The detector that a training starts from, or that is taken as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.downloads import attempt_download_asset

from kd_steps.adapters.yolo.models import ModelScale, WeightsError, build_model, for_classes, load_weights, pick_classes
from kd_steps.core.data.class_names import class_difference
from kd_steps.params.training import ScaledModel, Training


def initial_model(section: Training, weights: Path | None, classes: Sequence[str], seed: int) -> DetectionModel:
    """The detector a training starts from: pinned weights, or an architecture with fresh ones.

    Args:
        section: of the training; its ``model`` may itself be a ``.pt`` file.
        weights: a weight file that goes before ``section.model``, or None.
        classes: class names; of weights for other classes, the rows of the class layers go with their names.
        seed: of fresh weights.

    Raises:
        WeightsError: the weight file cannot be used.
    """
    if weights is None and isinstance(section.model, str) and section.model.endswith(".pt"):
        weights = Path(section.model)
    if weights is None:
        return build_model(_architecture(section.model), classes, seed)
    loaded = load_weights(_fetch(weights), section.weights_sha256)
    if list(loaded.names.values()) == list(classes):
        return loaded.float()
    difference = class_difference(list(loaded.names.values()), classes)
    LOGGER.warning(f"{weights}: {difference}; classes go by their names, and those it does not know start afresh")
    return for_classes(loaded, classes, seed)


def given_model(section: Training, weights: Path, classes: Sequence[str]) -> DetectionModel:
    """A trained detector as it is, its outputs picked by class name.

    Raises:
        WeightsError: the weight file cannot be used, or it does not know every class.
    """
    loaded = load_weights(_fetch(weights), section.weights_sha256).float()
    if list(loaded.names.values()) == list(classes):
        return loaded
    try:
        return pick_classes(loaded, classes)
    except WeightsError as error:
        raise WeightsError(
            f"{weights}: {error}; train it further (train_teacher.epochs above 0), or name another"
        ) from error


def _architecture(model: str | ScaledModel) -> str | ModelScale:
    return model if isinstance(model, str) else ModelScale(**model.model_dump())


def _fetch(weights: Path) -> Path:
    """A weight file by path, or one of Ultralytics' own by its bare name, fetched where the network allows."""
    if weights.exists() or weights.parent != Path():
        return weights
    try:
        return Path(attempt_download_asset(weights.name))
    except Exception as error:
        raise WeightsError(f"{weights}: no such file here, and Ultralytics could not fetch it ({error})") from error
