"""Average precision by faster-coco-eval, a maintained evaluator with COCO's semantics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kd_steps.core.evaluation.engine_summary import Accuracy


def evaluate_coco(
    objects: pd.DataFrame,
    detections: pd.DataFrame,
    image_ids: Sequence[str],
    class_ids: Sequence[int],
    max_detections: int,
) -> Accuracy:
    """Judge detections against ground truth.

    Args:
        objects: ground truth; columns image_id, class_id, x1_px, y1_px, x2_px, y2_px.
        detections: the same columns and score.
        image_ids: the pictures that count, each once; rows of others are left out.
        class_ids: the classes that count, each once; rows of others are left out.
        max_detections: most detections a picture and class that count, the best ones.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    categories = [{"id": class_id, "name": str(class_id)} for class_id in class_ids]
    images = [{"id": index + 1, "width": 1, "height": 1} for index in range(len(image_ids))]
    truth = _annotations(objects, image_ids, class_ids)
    frame: dict[str, Any] = {"info": {}, "images": images, "categories": categories}
    evaluator = COCOeval_faster(
        COCO({**frame, "annotations": truth}),
        COCO({**frame, "annotations": _annotations(detections, image_ids, class_ids)}),
        iouType="bbox",
    )
    evaluator.params.imgIds = [image["id"] for image in images]
    evaluator.params.catIds = list(class_ids)
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluator.params.maxDets = [max_detections]
    n_objects = np.array([sum(a["category_id"] == c for a in truth) for c in class_ids], dtype=np.int64)
    precision = np.full((10, 101, len(class_ids)), -1.0)
    if images and class_ids:
        evaluator.evaluate()
        evaluator.accumulate()
        # Axes of the evaluator: IoU, recall, class, area, limit. It sorts classes; ours keep the caller's order.
        precision[:, :, np.argsort(class_ids)] = np.asarray(evaluator.eval["precision"])[:, :, :, 0, 0]
    return Accuracy(
        map50_95=_mean(precision),
        map50=_mean(precision[0]),
        map75=_mean(precision[5]),
        class_ap50_95=np.array([_mean(precision[:, :, k]) for k in range(len(class_ids))]),
        class_ap50=np.array([_mean(precision[0, :, k]) for k in range(len(class_ids))]),
        n_objects=n_objects,
    )


def _annotations(boxes: pd.DataFrame, image_ids: Sequence[str], class_ids: Sequence[int]) -> list[dict[str, Any]]:
    """COCO annotations (x, y, width, height) of the rows that count, numbered from 1: the evaluator reads 0 as none."""
    numbers = {image_id: index + 1 for index, image_id in enumerate(image_ids)}
    rows = boxes[boxes["image_id"].isin(numbers) & boxes["class_id"].isin(list(class_ids))]
    corners = rows[["x1_px", "y1_px", "x2_px", "y2_px"]].to_numpy(np.float64)
    # A box turned inside out would have a negative area, which the evaluator ignores; here it is a miss as any other.
    sizes = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    scores = rows["score"].to_numpy(np.float64) if "score" in rows else np.ones(len(rows))
    return [
        {
            "id": index + 1,
            "image_id": numbers[image_id],
            "category_id": int(class_id),
            "bbox": [*corner[:2].tolist(), *size.tolist()],
            "area": float(size[0] * size[1]),
            "iscrowd": 0,
            "score": float(score),
        }
        for index, (image_id, class_id, corner, size, score) in enumerate(
            zip(rows["image_id"], rows["class_id"], corners, sizes, scores, strict=True)
        )
    ]


def _mean(precision: NDArray[np.float64]) -> float:
    """Mean of the entries that are defined; the evaluator marks a class without objects by -1."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else float("nan")
