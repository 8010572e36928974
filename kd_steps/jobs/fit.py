"""Whether a teacher, the data and a student can go together; asked before anything is answered or trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kd_steps.core.data.class_names import class_difference

if TYPE_CHECKING:
    from kd_steps.adapters.sidecar import Sidecar
    from kd_steps.adapters.yolo.models import Detector


class MisfitError(ValueError):
    """A teacher does not fit the data; the message names the difference and the mend."""


def require_fitting(
    folder: Path, sidecar: Sidecar, teacher: Detector, student: Detector, classes: Sequence[str]
) -> None:
    """Refuse a teacher whose class outputs are not the data's, or whose anchors are not the student's.

    Args:
        folder: of the teacher.
        sidecar: of the teacher.
        teacher: the teacher.
        student: the detector that is to learn.
        classes: class names of the prepared data, in the order of the ids.

    Raises:
        MisfitError: class names or their order differ.
        ValueError: strides or number of levels differ.
    """
    from kd_steps.adapters.yolo.models import require_same_geometry

    for told_by, names in ((str(folder), sidecar.classes), (f"{folder}/weights.pt", tuple(teacher.names.values()))):
        if difference := class_difference(names, classes):
            raise MisfitError(
                f"{told_by}: the teacher's classes are not those of data/prepared: {difference}. Run `dvc repro` to "
                "train it on this data, or name a teacher of these classes in train_teacher.weights"
            )
    require_same_geometry(teacher, student)
