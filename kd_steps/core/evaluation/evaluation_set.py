"""The pictures and objects that engines are judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class EvaluationSet:
    """Test pictures with their objects, and defect-free pictures.

    Attributes:
        pictures: columns image_id, split (``test`` or ``defect_free``), path, group: the board that it shows.
        objects: ground truth of the test pictures; columns image_id, class_id, x1_px, y1_px, x2_px, y2_px.
        base_classes: the classes that the teacher knows.
        class_names: every class of the data and of the engines; class ids are positions in it.
        digest: of the prepared data set.
    """

    pictures: pd.DataFrame
    objects: pd.DataFrame
    base_classes: tuple[str, ...]
    class_names: tuple[str, ...]
    digest: str

    def image_ids(self, split: str) -> list[str]:
        """Ids of one split's pictures."""
        return [str(image_id) for image_id in self.pictures.loc[self.pictures["split"] == split, "image_id"]]

    def boards(self, split: str) -> list[str]:
        """The board of each of one split's pictures."""
        return [str(board) for board in self.pictures.loc[self.pictures["split"] == split, "group"]]

    def class_ids(self, names: Sequence[str]) -> list[int]:
        """Positions of classes in ``class_names``."""
        return [self.class_names.index(name) for name in names]

    def judged_classes(self, new_classes: Sequence[str]) -> list[str]:
        """What an engine is judged on: the base classes in the order of the data, then its own new ones."""
        return [*self.base_classes, *new_classes]


def evaluation_set(
    images: pd.DataFrame,
    boxes: pd.DataFrame,
    data_classes: tuple[Sequence[str], Sequence[str]],
    digest: str,
    engine_classes: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> EvaluationSet:
    """Choose what engines are judged on.

    Args:
        images: the prepared ``images`` table.
        boxes: the prepared ``boxes`` table.
        data_classes: base and new classes of the data, in the order of the ids.
        digest: of the prepared data set.
        engine_classes: for each engine, all its classes and those of them that are new.

    Raises:
        ValueError: an engine knows other base classes than the data, or there is no test picture.
    """
    base, new = data_classes
    for engine, (every, added) in engine_classes.items():
        if set(every) - set(added) != set(base):
            raise ValueError(
                f"engine '{engine}': its base classes {[c for c in every if c not in added]} are not those of the "
                f"prepared data, {list(base)}; `dvc repro` trains and exports again"
            )
    pictures = images.loc[images["split"].isin(["test", "defect_free"]), ["image_id", "split", "path", "group"]]
    if not (pictures["split"] == "test").any():
        raise ValueError("data/prepared/images.parquet: no picture in the split 'test'; see prepare.splits")
    added_names = [name for _, added in engine_classes.values() for name in added]
    names = tuple(dict.fromkeys([*base, *new, *added_names]))
    objects = boxes[boxes["split"] == "test"].reset_index(drop=True)
    return EvaluationSet(pictures.reset_index(drop=True), objects, tuple(base), names, digest)
