"""The prepared data set on disk, as `prepare` leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kd_steps.artifacts import DatasetCard, PicturesCard, paths
from kd_steps.core.data.sample import UNLABELLED, LabelledImage, labelled_images
from kd_steps.edge.contract import canonical_digest


@dataclass(frozen=True)
class PreparedSet:
    """The prepared data set.

    Attributes:
        root: its folder.
        classes: base class names, in the order of the ids.
        numbers: of the base classes in the product's ledger; ascending.
        new_classes: classes held out as new parts; their ids follow.
        digest: sha256 over pictures and labels.
        images: the ``images`` table.
        boxes: the ``boxes`` table.
        warnings: what `prepare` had to say.
    """

    root: Path
    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    new_classes: tuple[str, ...]
    digest: str
    images: pd.DataFrame
    boxes: pd.DataFrame
    warnings: tuple[str, ...]

    def split(self, name: str) -> list[LabelledImage]:
        """The pictures of a split, ordered by digest.

        Raises:
            ValueError: the split is empty.
        """
        chosen = labelled_images(self.images, self.boxes, self.root, name)
        if not chosen:
            raise ValueError(f"{self.root}: the split '{name}' is empty; see prepare.splits in params.yaml")
        return chosen


@dataclass(frozen=True)
class UnlabelledSet:
    """The pictures without labels.

    Attributes:
        root: its folder.
        digest: sha256 over the pictures.
        images: its ``images`` table.
        warnings: which pictures were left out, and why.
    """

    root: Path
    digest: str
    images: pd.DataFrame
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class TrainingSet:
    """What a student is trained on.

    Attributes:
        pictures: the train split and, for a student with a teacher, those without labels; ordered by digest.
        digest: sha256 over all data sets they come from.
    """

    pictures: list[LabelledImage]
    digest: str


def load_prepared(root: Path = paths.PREPARED) -> PreparedSet:
    """Read the prepared data set.

    Raises:
        FileNotFoundError: `prepare` has not run.
    """
    card = DatasetCard.read(root / paths.DATASET_CARD)
    return PreparedSet(
        root=root,
        classes=tuple(known.name for known in card.classes),
        numbers=tuple(known.number for known in card.classes),
        new_classes=tuple(known.name for known in card.new_classes),
        digest=card.digest,
        images=pd.read_parquet(root / "images.parquet"),
        boxes=pd.read_parquet(root / "boxes.parquet"),
        warnings=card.warnings,
    )


def load_unlabelled(root: Path = paths.UNLABELLED) -> UnlabelledSet:
    """Read the pictures without labels; there may be none.

    Raises:
        FileNotFoundError: `prepare` has not run.
    """
    card = PicturesCard.read(root / paths.DATASET_CARD)
    return UnlabelledSet(root, card.digest, pd.read_parquet(root / "images.parquet"), card.warnings)


def distillation_set(prepared: PreparedSet, unlabelled: UnlabelledSet) -> TrainingSet:
    """The train split and the pictures without labels.

    Raises:
        ValueError: the train split is empty.
    """
    train = prepared.split("train")
    if unlabelled.images.empty:
        return TrainingSet(train, prepared.digest)
    others = labelled_images(unlabelled.images, prepared.boxes, unlabelled.root, UNLABELLED)
    pictures = sorted([*train, *others], key=lambda image: image.digest)
    return TrainingSet(pictures, canonical_digest([prepared.digest, unlabelled.digest]))
