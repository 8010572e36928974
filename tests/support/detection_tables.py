"""Random ground truth and detections for the tests of matching, metrics and the evaluator."""

from __future__ import annotations

import numpy as np
import pandas as pd

CORNERS = ["x1_px", "y1_px", "x2_px", "y2_px"]


def random_tables(
    seed: int, n_images: int = 12, n_classes: int = 3, whole_pixels: bool = False, tied_scores: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Objects, detections (shifted objects, doubles, and inventions) and image ids; the last picture is empty."""
    generator = np.random.default_rng(seed)
    objects, detections = [], []
    image_ids = [f"board-{index:02d}" for index in range(n_images)]
    for image_id in image_ids[:-1]:
        for _ in range(generator.integers(0, 6)):
            class_id = int(generator.integers(n_classes))
            corner, size = generator.uniform(0, 60, 2), generator.uniform(8, 40, 2)
            box = np.concatenate([corner, corner + size])
            objects.append((image_id, class_id, *box))
            for _ in range(generator.integers(0, 3)):
                told = class_id if generator.random() < 0.8 else int(generator.integers(n_classes))
                moved = box + generator.uniform(-4, 4, 4)  # no side shrinks below the least of 8 px
                detections.append((image_id, told, generator.random(), *moved))
        for _ in range(generator.integers(0, 4)):
            corner, size = generator.uniform(0, 60, 2), generator.uniform(8, 40, 2)
            detections.append(
                (image_id, int(generator.integers(n_classes)), generator.random(), *corner, *(corner + size))
            )
    truth = pd.DataFrame(objects, columns=["image_id", "class_id", *CORNERS])
    found = pd.DataFrame(detections, columns=["image_id", "class_id", "score", *CORNERS])
    if whole_pixels:
        truth[CORNERS], found[CORNERS] = truth[CORNERS].round(), found[CORNERS].round()
    if tied_scores:
        found["score"] = found["score"].round(1)
    return truth, found, image_ids


def repeated(
    truth: pd.DataFrame, found: pd.DataFrame, image_ids: list[str], counts: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The tables with each picture copied as often as ``counts`` says, every copy a picture of its own."""
    truths, founds, names = [truth.iloc[:0]], [found.iloc[:0]], []
    for image_id, count in zip(image_ids, counts, strict=True):
        for copy in range(count):
            names.append(f"{image_id}/{copy}")
            truths.append(truth[truth["image_id"] == image_id].assign(image_id=names[-1]))
            founds.append(found[found["image_id"] == image_id].assign(image_id=names[-1]))
    return pd.concat(truths), pd.concat(founds), names
