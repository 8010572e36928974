"""The prepared data set on disk, as `prepare` leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kd_steps.adapters.files import read_json
from kd_steps.core.labelled import UNLABELLED, LabelledImage, labelled_images

PREPARED = Path("data/prepared")


@dataclass(frozen=True)
class PreparedSet:
    """The prepared data set.

    Attributes:
        root: its folder.
        classes: base class names, in the order of the ids.
        new_classes: classes held out as new parts; their ids follow.
        digest: sha256 over pictures and labels.
        images: the ``images`` table.
        boxes: the ``boxes`` table.
    """

    root: Path
    classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    digest: str
    images: pd.DataFrame
    boxes: pd.DataFrame

    def split(self, name: str) -> list[LabelledImage]:
        """The pictures of a split, ordered by digest.

        Raises:
            ValueError: the split is empty.
        """
        chosen = labelled_images(self.images, self.boxes, self.root, name)
        if not chosen:
            raise ValueError(f"{self.root}: the split '{name}' is empty; see prepare.splits in params.yaml")
        return chosen

    def training_pictures(self) -> list[LabelledImage]:
        """What a student is distilled on: the train split and the pictures without labels, if any, ordered by digest.

        Raises:
            ValueError: the train split is empty.
        """
        unlabelled = labelled_images(self.images, self.boxes, self.root, UNLABELLED)
        return sorted([*self.split("train"), *unlabelled], key=lambda image: image.digest)


def load_prepared(root: Path = PREPARED) -> PreparedSet:
    """Read the prepared data set.

    Raises:
        FileNotFoundError: `prepare` has not run.
    """
    note = read_json(root / "dataset.json")
    return PreparedSet(
        root=root,
        classes=tuple(note["classes"]),
        new_classes=tuple(note["new_classes"]),
        digest=note["digest"],
        images=pd.read_parquet(root / "images.parquet"),
        boxes=pd.read_parquet(root / "boxes.parquet"),
    )
