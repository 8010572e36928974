"""What the weights of a training depend on, written beside them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from kd_steps.artifacts import Document
from kd_steps.edge.contract import canonical_digest
from kd_steps.edge.identity import release
from kd_steps.params.training import ScaledModel

LIBRARIES = ("ultralytics", "torch", "numpy")  # whose arithmetic makes the weights
# Knobs of trainings that came after recipe numbers → the value at which a training is what it was without them.
NEUTRAL: Mapping[str, Any] = {}
SCALE_IN_A_NAME = re.compile(r"(\d+)[nslmx](.+)?$")  # Ultralytics reads yolo11n.yaml from yolo11.yaml


class Fingerprint(Document):
    """What the weights of a training depend on, and nothing else.

    Attributes:
        finished: whether the training came to its end.
        dataset: digest of its pictures and labels.
        contract: digest of the preprocessing contract.
        seed: of views, order and fresh weights.
        task: what the network is for.
        classes: names, in the order of the outputs.
        values: its knobs in ``params.yaml``, by name.
        architecture: digest of a model YAML that lies in the project and may change under its name.
        learns_from: sha256 of the weights that teach it, or that it begins with.
        taught_with: what the teacher is asked, or which shots are learnt; empty: the labels alone teach.
        libraries: releases of those that compute.
        recipe: numbers of our own code that computes.
    """

    finished: bool = False
    dataset: str
    contract: str
    seed: int
    task: Literal["detect"] = "detect"
    classes: tuple[str, ...]
    values: dict[str, Any]
    architecture: str | None = None
    learns_from: str | None = None
    taught_with: dict[str, Any]
    libraries: dict[str, str]
    recipe: dict[str, int]

    def differs_in_names_alone(self, found: Fingerprint, renamed_from: Collection[str]) -> bool:
        """Whether weights with another fingerprint are those that are wanted but for the names of their classes.

        Names have no part in a training, except of one that begins with a weight file: its class rows go by them.

        Args:
            found: the fingerprint of the weights that are there.
            renamed_from: sha256 of the weight files that are ``learns_from`` but for the names of their classes.
        """
        by_names = self.values.get("weights") or str(self.values.get("model")).endswith(".pt")
        if by_names or len(found.classes) != len(self.classes):
            return False
        same = {"classes": self.classes, "finished": self.finished}
        if found.learns_from in renamed_from:
            same["learns_from"] = self.learns_from
        return found.model_copy(update=same) == self


def that_count(values: Mapping[str, Any], neutral: Mapping[str, Any] = NEUTRAL) -> dict[str, Any]:
    """Values of knobs without those that do nothing, so that a new knob leaves finished weights as they are.

    Args:
        values: of all knobs of a training, by name.
        neutral: knob → value at which it does nothing; knobs that are not named always count.
    """
    return {name: value for name, value in values.items() if name not in neutral or value != neutral[name]}


def releases() -> dict[str, str]:
    """The installed releases of the libraries that compute a training."""
    return {name: release(name) for name in LIBRARIES}


def own_architecture(model: str | ScaledModel) -> str | None:
    """Digest of what a model YAML of the project says; None for one of Ultralytics, which its release tells.

    Args:
        model: of a training's section.
    """
    name = model if isinstance(model, str) else model.architecture
    files = [path for path in (Path(name), Path(SCALE_IN_A_NAME.sub(r"\1\2", name))) if path.is_file()]
    if not files or name.endswith(".pt"):
        return None
    try:
        return canonical_digest(yaml.safe_load(files[0].read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None  # the training will say what is wrong with it
