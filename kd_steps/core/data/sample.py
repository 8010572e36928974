"""A prepared picture with its objects, as training needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

UNLABELLED: Final = "unlabelled"  # the split of pictures without labels


@dataclass(frozen=True)
class LabelledImage:
    """One picture of a split.

    Attributes:
        path: of the picture file.
        digest: sha256 (hex) of its bytes.
        size_wh_px: width and height.
        class_ids: int64 of shape (n,).
        boxes_xywh: centre, width and height as shares of the picture's sides, float32 of shape (n, 4).
        labelled: False where nobody has looked for objects: no objects then says nothing.
    """

    path: Path
    digest: str
    size_wh_px: tuple[int, int]
    class_ids: NDArray[np.int64]
    boxes_xywh: NDArray[np.float32]
    labelled: bool = True


def labelled_images(images: pd.DataFrame, boxes: pd.DataFrame, root: Path, split: str) -> list[LabelledImage]:
    """The pictures of a split, ordered by digest, so that no file name or table order can change a training.

    Args:
        images: the prepared ``images`` table.
        boxes: the prepared ``boxes`` table.
        root: the folder that the table's paths are relative to.
        split: ``train``, ``val``, ``test``, ``defect_free`` or ``unlabelled``.
    """
    by_image = {str(image_id): rows for image_id, rows in boxes[boxes["split"] == split].groupby("image_id")}
    chosen = images[images["split"] == split].sort_values("sha256")
    return [_labelled(row, by_image.get(str(row.image_id)), root) for row in chosen.itertuples()]


def _labelled(row: object, boxes: pd.DataFrame | None, root: Path) -> LabelledImage:
    width, height = int(row.width_px), int(row.height_px)  # type: ignore[attr-defined]
    corners = np.zeros((0, 4)) if boxes is None else boxes[["x1_px", "y1_px", "x2_px", "y2_px"]].to_numpy(np.float64)
    centres_and_sizes = np.column_stack(
        [(corners[:, :2] + corners[:, 2:]) / 2 / [width, height], (corners[:, 2:] - corners[:, :2]) / [width, height]]
    )
    return LabelledImage(
        path=root / str(row.path),  # type: ignore[attr-defined]
        digest=str(row.sha256),  # type: ignore[attr-defined]
        size_wh_px=(width, height),
        class_ids=np.zeros(0, np.int64) if boxes is None else boxes["class_id"].to_numpy(np.int64),
        boxes_xywh=centres_and_sizes.astype(np.float32),
        labelled=str(row.split) != UNLABELLED,  # type: ignore[attr-defined]
    )
