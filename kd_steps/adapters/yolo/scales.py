"""Sizes that an architecture can be built at, to find one between a teacher and a student."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ultralytics.nn.tasks import DetectionModel

from kd_steps.adapters.yolo.models import ArchitectureError, ModelScale, build_model, parameter_count
from kd_steps.adapters.yolo.runtime import quiet

LETTERS = "nsmblx"  # of Ultralytics' named scales; a family may lack some
NEAR = 1.25  # a named scale this close to the wanted size is taken: it has pretrained weights and a known speed
WIDTH_STEPS = (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5)  # of 2 %: attention needs channels that its heads divide


@dataclass(frozen=True)
class Scale:
    """A size of an architecture.

    Attributes:
        name: the letter of a named scale, else empty.
        model: a model YAML's name, or a scale of our own.
        parameters: number of weights.
    """

    name: str
    model: str | ModelScale
    parameters: int


def scale_near(student: DetectionModel, wanted_parameters: int) -> Scale | None:
    """The student's architecture at about so many weights.

    Args:
        student: a detector of that architecture.
        wanted_parameters: number of weights.

    Returns:
        A named scale where one is near, else one of our own; None for an architecture without scales.
    """
    letter = str(student.yaml.get("scale") or "")
    own = (student.yaml.get("scales") or {}).get(letter)
    file = str(student.yaml.get("yaml_file") or "")
    if not own or not file:
        return None
    plain = re.sub(rf"(\d){letter}(?=[.-])", r"\1", file, count=1)
    classes = list(student.names.values())
    with quiet():
        named = [_built(other, re.sub(r"(\d)(?=[.-])", rf"\g<1>{other}", plain, count=1), classes) for other in LETTERS]
        near = [s for s in named if s and wanted_parameters / NEAR <= s.parameters <= wanted_parameters * NEAR]
        if near:
            return min(near, key=lambda s: abs(s.parameters - wanted_parameters))
        architecture = plain if _built("", ModelScale(plain, *own), classes) else file
        width = own[1]
        found = _of_width(architecture, own, width, classes)
        for _ in range(2):  # channels come in eights, so that the width is only about the root of the size
            if found is not None:
                width *= (wanted_parameters / found.parameters) ** 0.5
                found = _of_width(architecture, own, width, classes)
    return found


def _of_width(architecture: str, own: Sequence[float], width: float, classes: list[str]) -> Scale | None:
    """The architecture at this width, or at the nearest one that it can be built at."""
    tried = (ModelScale(architecture, own[0], round(width * (1 + 0.02 * n), 3), int(own[2])) for n in WIDTH_STEPS)
    return next((scale for model in tried if (scale := _built("", model, classes))), None)


def _built(name: str, model: str | ModelScale, classes: list[str]) -> Scale | None:
    try:
        return Scale(name, model, parameter_count(build_model(model, classes, 0)))
    except ArchitectureError:
        return None
