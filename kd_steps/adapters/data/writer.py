"""The prepared set on disk: the YOLO layout beside two Parquet tables (pyarrow)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from kd_steps.core.data.boxes import xyxy_to_yolo
from kd_steps.core.data.source import PictureFacts
from kd_steps.core.data.yolo_labels import Labels, format_yolo

ROWS_PER_GROUP = 1024

IMAGES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("path", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("channels", pa.int32()),
        ("group", pa.string()),
        ("sha256", pa.string()),
        ("pixel_hash", pa.string()),
        ("phash", pa.int64()),
        ("brightness", pa.float64()),
        ("contrast", pa.float64()),
        ("n_boxes", pa.int32()),
    ]
)
BOXES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        ("x1_px", pa.float64()),
        ("y1_px", pa.float64()),
        ("x2_px", pa.float64()),
        ("y2_px", pa.float64()),
        ("is_new", pa.bool_()),
    ]
)


class TableWriter:
    """A Parquet table written a row group at a time, so that memory does not grow with its rows."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows: list[dict[str, Any]] = []
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()

    def append(self, row: dict[str, Any]) -> None:
        """Add one row; its keys are the schema's columns."""
        self._rows.append(row)
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def signed_hash(phash: int) -> int:
    """The int64 with the same 64 bits as an unsigned hash (Parquet readers agree on int64)."""
    return int(np.array([phash], dtype=np.uint64).view(np.int64)[0])


def write_data_yaml(path: Path, folders: dict[str, str], names: Sequence[str]) -> None:
    """Write the ``data.yaml`` of a YOLO detection set: folders of pictures by split, and the class names by id."""
    content = {**folders, "names": dict(enumerate(names))}
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


class PictureWriter:
    """Writes the ``images`` table of a set, a picture at a time; pictures are put in place by the caller.

    Args:
        root: the folder of the set.
    """

    def __init__(self, root: Path) -> None:
        self._images = TableWriter(root / "images.parquet", IMAGES_SCHEMA)
        self._digest = hashlib.sha256()
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._images.__exit__(kind, error, trace)

    def add_picture(
        self,
        path: PurePosixPath,
        split: str,
        group: str,
        facts: PictureFacts,
        n_boxes: int | None = None,
        label: str = "",
    ) -> None:
        """Write the table row of one picture, whose file is (or will be) ``path`` in the set.

        Args:
            path: of the picture.
            split: which it belongs to.
            group: its board.
            facts: what was measured.
            n_boxes: how many objects it shows; None where nobody has looked.
            label: the text of its label file.
        """
        self._digest.update(f"{path}\n{facts.sha256}\n{label}".encode())
        self.counts[split] += 1
        self._images.append(
            {
                "image_id": path.stem,
                "split": split,
                "path": str(path),
                "width_px": facts.width_px,
                "height_px": facts.height_px,
                "channels": facts.channels,
                "group": group,
                "sha256": facts.sha256,
                "pixel_hash": facts.pixel_hash,
                "phash": signed_hash(facts.phash),
                "brightness": facts.brightness,
                "contrast": facts.contrast,
                "n_boxes": n_boxes,
            }
        )

    def digest(self) -> str:
        """sha256 (hex) over the places, bytes and labels of all pictures added."""
        return self._digest.hexdigest()


class PreparedWriter(PictureWriter):
    """Writes labels and both tables of a prepared set, a picture at a time; pictures are put in place by the caller.

    Args:
        root: the folder of the set; its ``images/`` and ``labels/`` folders are made here.
        splits: names of the splits.
        names: class names by id, base classes first.
        n_base: how many of them are base classes.
    """

    def __init__(self, root: Path, splits: Sequence[str], names: Sequence[str], n_base: int) -> None:
        for split in splits:
            (root / "images" / split).mkdir(parents=True)
            (root / "labels" / split).mkdir(parents=True)
        super().__init__(root)
        self._root, self._names, self._n_base = root, list(names), n_base
        self._boxes = TableWriter(root / "boxes.parquet", BOXES_SCHEMA)
        self.counts.update(dict.fromkeys(splits, 0))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._boxes.__exit__(kind, error, trace)

    def add(
        self,
        path: PurePosixPath,
        split: str,
        group: str,
        facts: PictureFacts,
        class_ids: NDArray[np.int64],
        boxes_xyxy_px: NDArray[np.float64],
    ) -> None:
        """Write the label file and the table rows of one picture, whose file is (or will be) ``path`` in the set."""
        text = yolo_text(facts, class_ids, boxes_xyxy_px)
        (self._root / "labels" / split / f"{path.stem}.txt").write_text(text, encoding="utf-8")
        self.add_picture(path, split, group, facts, len(class_ids), text)
        for class_id, (x1, y1, x2, y2) in zip(class_ids.tolist(), boxes_xyxy_px.tolist(), strict=True):
            self._boxes.append(
                {
                    "image_id": path.stem,
                    "split": split,
                    "class_id": class_id,
                    "class_name": self._names[class_id],
                    "x1_px": x1,
                    "y1_px": y1,
                    "x2_px": x2,
                    "y2_px": y2,
                    "is_new": class_id >= self._n_base,
                }
            )


def yolo_text(facts: PictureFacts, class_ids: NDArray[np.int64], boxes_xyxy_px: NDArray[np.float64]) -> str:
    """The YOLO label text of one picture; empty if it has no objects."""
    return format_yolo(Labels(class_ids, xyxy_to_yolo(boxes_xyxy_px, facts.width_px, facts.height_px)))
