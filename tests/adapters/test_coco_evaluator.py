from __future__ import annotations

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
from detection_tables import CORNERS, random_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.adapters.coco_evaluator import evaluate_coco
from kd_steps.core.evaluation.average_precision import average_precision, mean_ap
from kd_steps.core.evaluation.matching import match_detections


def pycocotools_precision(
    truth: pd.DataFrame, found: pd.DataFrame, image_ids: list[str], class_ids: list[int]
) -> np.ndarray:
    """The second library: precision of shape (10, 101, classes), -1 where a class has no object."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def annotations(boxes: pd.DataFrame) -> list[dict]:
        return [
            {
                "id": number + 1,
                "image_id": image_ids.index(row.image_id) + 1,
                "category_id": int(row.class_id),
                "bbox": [row.x1_px, row.y1_px, row.x2_px - row.x1_px, row.y2_px - row.y1_px],
                "area": (row.x2_px - row.x1_px) * (row.y2_px - row.y1_px),
                "iscrowd": 0,
                "score": getattr(row, "score", 1.0),
            }
            for number, row in enumerate(boxes.itertuples())
        ]

    def dataset(boxes: pd.DataFrame) -> COCO:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number + 1} for number in range(len(image_ids))],
            "categories": [{"id": class_id, "name": str(class_id)} for class_id in class_ids],
            "annotations": annotations(boxes),
        }
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(dataset(truth), dataset(found), "bbox")
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [300]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"][:, :, :, 0, 0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), whole_pixels=st.booleans(), tied_scores=st.booleans())
def test_agrees_with_a_second_library_and_with_the_kept_matches(
    seed: int, whole_pixels: bool, tied_scores: bool
) -> None:
    truth, found, image_ids = random_tables(seed, whole_pixels=whole_pixels, tied_scores=tied_scores)
    ours = evaluate_coco(truth, found, image_ids, [0, 1, 2], 300)
    theirs = pycocotools_precision(truth, found, image_ids, [0, 1, 2])
    known = theirs[0, 0] > -1
    np.testing.assert_allclose(ours.class_ap50_95[known], theirs.mean(axis=(0, 1))[known], atol=1e-9)
    np.testing.assert_allclose(ours.class_ap50[known], theirs[0].mean(axis=0)[known], atol=1e-9)
    assert np.isnan(ours.class_ap50[~known]).all()
    if known.any():
        assert ours.map50_95 == pytest.approx(theirs[theirs > -1].mean(), abs=1e-9)
        assert ours.map75 == pytest.approx(theirs[5][theirs[5] > -1].mean(), abs=1e-9)

    ap = average_precision(match_detections(truth, found, image_ids, [0, 1, 2]))
    np.testing.assert_allclose(ap[0].mean(axis=1), ours.class_ap50_95, atol=1e-9)
    np.testing.assert_allclose(ap[0, :, 0], ours.class_ap50, atol=1e-9)
    for which, value in {"50_95": ours.map50_95, "50": ours.map50, "75": ours.map75}.items():
        np.testing.assert_allclose(mean_ap(ap, which)[0], value, atol=1e-9)  # type: ignore[arg-type]


def boxes(rows: list[tuple], *, scored: bool) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_id", "class_id", *(["score"] if scored else []), *CORNERS])


def test_a_case_worked_out_by_hand() -> None:
    # Two objects. A hit (IoU 0.8), a miss, then a hit (IoU 1): precision 1 up to recall 0.5, then 2/3.
    truth = boxes([("a", 0, 0, 0, 10, 10), ("b", 0, 0, 0, 10, 10)], scored=False)
    found = boxes([("a", 0, 0.9, 0, 0, 10, 8), ("a", 0, 0.8, 50, 50, 60, 60), ("b", 0, 0.7, 0, 0, 10, 10)], scored=True)
    accuracy = evaluate_coco(truth, found, ["a", "b"], [0], 300)
    ap50 = (51 * 1 + 50 * 2 / 3) / 101
    assert accuracy.map50 == pytest.approx(ap50)
    # Above IoU 0.8 the first is a miss too: one of two objects is found, third in rank.
    above = (51 * 1 / 3) / 101
    assert accuracy.map50_95 == pytest.approx((7 * ap50 + 3 * above) / 10)
    assert accuracy.n_objects.tolist() == [2]


def test_a_box_turned_inside_out_counts_as_a_miss() -> None:
    truth = boxes([("a", 0, 0, 0, 10, 10)], scored=False)
    found = boxes([("a", 0, 0.9, 40, 0, 30, 10), ("a", 0, 0.5, 0, 0, 10, 10)], scored=True)
    assert evaluate_coco(truth, found, ["a"], [0], 300).map50 == pytest.approx(0.5)
    assert mean_ap(average_precision(match_detections(truth, found, ["a"], [0])), "50")[0] == pytest.approx(0.5)


def test_rows_of_other_pictures_and_classes_do_not_count() -> None:
    truth, found, image_ids = random_tables(5)
    alone = evaluate_coco(truth[truth["class_id"] == 1], found[found["class_id"] == 1], image_ids[:6], [1], 300)
    among = evaluate_coco(truth, found, image_ids[:6], [1], 300)
    assert among.map50_95 == alone.map50_95
    assert among.n_objects.tolist() == alone.n_objects.tolist()


def test_classes_keep_the_order_of_the_caller() -> None:
    truth, found, image_ids = random_tables(6)
    forward = evaluate_coco(truth, found, image_ids, [0, 1, 2], 300)
    backward = evaluate_coco(truth, found, image_ids, [2, 1, 0], 300)
    np.testing.assert_array_equal(forward.class_ap50_95, backward.class_ap50_95[::-1])


def test_nothing_found_is_zero_and_nothing_to_find_is_unknown() -> None:
    truth, found, image_ids = random_tables(7)
    nothing_found = evaluate_coco(truth, found.iloc[:0], image_ids, [0, 1, 2], 300)
    assert nothing_found.map50_95 == 0
    nothing_to_find = evaluate_coco(truth.iloc[:0], found, image_ids, [0, 1, 2], 300)
    assert np.isnan(nothing_to_find.map50_95)
    no_pictures = evaluate_coco(truth, found, [], [0, 1, 2], 300)
    assert np.isnan(no_pictures.map50_95)
    assert no_pictures.n_objects.tolist() == [0, 0, 0]
