"""Measurement bundles as tables: detections under class ids of an evaluation, times under the names of engines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kd_steps.core.data.boxes import CORNERS
from kd_steps.edge.bundle import Bundle
from kd_steps.edge.latency import PHASES

COLUMNS = ["image_id", "split", "class_id", "score", *CORNERS]


def detections_table(bundle: Bundle, classes: Sequence[str], class_names: Sequence[str]) -> pd.DataFrame:
    """What an engine found, picture by picture, the best first.

    Args:
        bundle: of the engine.
        classes: of the engine, by output column.
        class_names: the class ids of the table are positions in it; every class of the engine is among them.

    Returns:
        Columns image_id, split, class_id, score, x1_px, y1_px, x2_px, y2_px.
    """
    found, pictures = bundle.found, bundle.note.pictures
    class_of = np.array([class_names.index(name) for name in classes], dtype=np.int64)
    table = pd.DataFrame(found.box_xyxy_px.astype(np.float64), columns=CORNERS)
    return table.assign(
        image_id=np.array([name for name, _, _ in pictures], dtype=object)[found.image],
        split=np.array([split for _, split, _ in pictures], dtype=object)[found.image],
        class_id=class_of[found.column],
        score=found.score.astype(np.float64),
    )[COLUMNS]


def times_table(bundle: Bundle, names: Sequence[str]) -> pd.DataFrame:
    """The latency rounds of a bundle.

    Args:
        bundle: of the engine.
        names: in the table, of the engine, its reference and the reference's repetition; equal ones are told once.

    Returns:
        Columns round, engine, preprocess_ms, inference_ms, postprocess_ms, total_ms.
    """
    once = list(dict.fromkeys(names))
    times_ms = bundle.times_ms[:, [names.index(name) for name in once]]
    table = pd.DataFrame(times_ms.reshape(-1, len(PHASES)), columns=list(PHASES))
    table.insert(0, "round", np.repeat(np.arange(len(times_ms)), len(once)))
    table.insert(1, "engine", once * len(times_ms))
    return table
