"""Greedy matching of detections to objects. That its AP is COCO's is told in tests/adapters/test_coco_evaluator.py."""

import numpy as np
import pandas as pd

from kd_steps.core.evaluation.matching import IOU_THRESHOLDS, match_detections

PLACES = ["image_id", "class_id", "x1_px", "y1_px", "x2_px", "y2_px"]


def table(*rows, columns=PLACES):
    return pd.DataFrame([dict(zip(columns, row, strict=True)) for row in rows], columns=columns)


def found(*rows):
    return table(*rows, columns=[*PLACES, "score"])


def test_an_object_is_hit_once_and_by_the_surest():
    objects = table(("p", 0, 0, 0, 10, 10))
    matches = match_detections(objects, found(("p", 0, 0, 0, 10, 10, 0.3), ("p", 0, 0, 0, 10, 8, 0.9)), ["p"], [0])
    assert matches.scores.tolist() == [0.9, 0.3]
    sure, other = matches.hits
    assert sure.tolist() == (IOU_THRESHOLDS <= 0.8 + 1e-9).tolist()
    assert (sure ^ other).all(), "what the surest leaves, the other takes"


def test_pictures_and_classes_are_kept_apart_and_others_left_out():
    objects = table(("p", 0, 0, 0, 10, 10), ("q", 1, 0, 0, 10, 10), ("elsewhere", 0, 0, 0, 10, 10))
    same = (0, 0, 10, 10)
    detections = found(("p", 1, *same, 0.9), ("q", 0, *same, 0.8), ("q", 1, *same, 0.7), ("q", 7, *same, 0.6))
    matches = match_detections(objects, detections, ["p", "q"], [0, 1])
    assert matches.n_objects.tolist() == [[1, 0], [0, 1]]
    assert matches.hits.all(axis=1).tolist() == [False, False, True]
    assert list(zip(matches.image_index, matches.class_index, strict=True)) == [(0, 1), (1, 0), (1, 1)]


def test_nothing_found_and_nothing_to_find():
    one = table(("p", 0, 0, 0, 10, 10))
    assert match_detections(one, found(), ["p"], [0]).hits.shape == (0, 10)
    assert not match_detections(table(), found(("p", 0, 0, 0, 9, 9, 0.5)), ["p"], [0]).hits.any()


def test_the_order_of_the_rows_does_not_count():
    draw = np.random.default_rng(0)
    corners = draw.uniform(0, 20, (30, 2))
    boxes = [(f"p{i % 3}", i % 2, *corners[i], *(corners[i] + 8)) for i in range(30)]
    detections = found(*((*row, score) for row, score in zip(boxes, draw.permutation(30) / 30, strict=True)))
    straight = match_detections(table(*boxes[::2]), detections, ["p0", "p1", "p2"], [0, 1])
    mixed = match_detections(table(*boxes[::2]), detections.sample(frac=1, random_state=1), ["p0", "p1", "p2"], [0, 1])
    assert (straight.hits == mixed.hits).all()
    assert straight.hits.any()
