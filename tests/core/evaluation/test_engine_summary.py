from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from detection_tables import random_tables

from kd_steps.core.evaluation.average_precision import resample_boards, resample_images
from kd_steps.core.evaluation.engine_summary import (
    ApSample,
    class_ap50_intervals,
    known_or_none,
    latency_control,
    latency_quantiles,
    latency_summary,
    map_ratio,
    precision_recall_table,
    sample_ap,
)
from kd_steps.core.evaluation.evaluation_set import evaluation_set
from kd_steps.core.evaluation.intervals import wilson_interval
from kd_steps.core.evaluation.matching import match_detections


def samples_of(seed: int, n_images: int) -> tuple[ApSample, ApSample]:
    """A teacher, and a student that misses every second of its detections."""
    truth, found, image_ids = random_tables(seed, n_images=n_images)
    counts = resample_images(n_images, 200, np.random.default_rng(0))
    teacher = match_detections(truth, found, image_ids, [0, 1, 2])
    student = match_detections(truth, found.iloc[::2], image_ids, [0, 1, 2])
    return sample_ap(student, counts, image_ids), sample_ap(teacher, counts, image_ids)


def times_of(generator: np.random.Generator, rounds: int, **factors: float) -> pd.DataFrame:
    """Times of engines under a load that all of a round share; rows in random order."""
    load = generator.uniform(1, 4, rounds)
    tables = []
    for engine, factor in factors.items():
        total_ms = 10 * factor * load * generator.normal(1, 0.01, rounds)
        phases = {"preprocess_ms": total_ms * 0.1, "inference_ms": total_ms * 0.8, "postprocess_ms": total_ms * 0.1}
        tables.append(pd.DataFrame({"round": range(rounds), "engine": engine, **phases, "total_ms": total_ms}))
    return pd.concat(tables).sample(frac=1, random_state=1)


def test_the_paired_ratio_is_narrower_than_the_unpaired_one() -> None:
    student, teacher = samples_of(3, 60)
    paired = map_ratio(student, teacher, 3, 0.95)
    assert paired.value is not None
    assert paired.low is not None
    assert paired.high is not None
    assert paired.low < paired.value < paired.high
    shuffled = replace(teacher, resampled=np.random.default_rng(1).permutation(teacher.resampled))
    unpaired = map_ratio(student, shuffled, 3, 0.95)
    assert unpaired.low is not None
    assert unpaired.high is not None
    assert paired.high - paired.low < unpaired.high - unpaired.low


def test_more_pictures_narrow_the_ratio() -> None:
    widths = []
    for n_images in (20, 320):
        ratio = map_ratio(*samples_of(5, n_images), 3, 0.95)
        assert ratio.low is not None
        assert ratio.high is not None
        widths.append(ratio.high - ratio.low)
    assert widths[1] < widths[0] / 2


def test_a_teacher_that_finds_nothing_leaves_the_ratio_unknown() -> None:
    student, teacher = samples_of(3, 20)
    blind = replace(teacher, measured=teacher.measured * 0, resampled=teacher.resampled * 0)
    ratio = map_ratio(student, blind, 3, 0.95)
    assert (ratio.value, ratio.low, ratio.high, ratio.n) == (None, None, None, 20)


def test_new_classes_do_not_move_the_ratio() -> None:
    student, teacher = samples_of(3, 40)
    base = replace(teacher, measured=teacher.measured[:, :2], resampled=teacher.resampled[:, :2])
    assert map_ratio(student, base, 2, 0.95) == map_ratio(student, teacher, 2, 0.95)
    assert map_ratio(student, teacher, 2, 0.95) != map_ratio(student, teacher, 3, 0.95)


def test_four_objects_all_found_prove_little() -> None:
    boards = ["b0", "b1", "b2", "b3"]
    truth = pd.DataFrame(
        [(f"b{k}", 0, 0, 0, 10, 10) for k in range(4)],
        columns=["image_id", "class_id", "x1_px", "y1_px", "x2_px", "y2_px"],
    )
    matches = match_detections(truth, truth.assign(score=0.9), boards, [0, 1])
    sample = sample_ap(matches, resample_images(4, 100, np.random.default_rng(0)), boards)
    found, absent = class_ap50_intervals(sample, 0.95)
    assert found.value == 1
    assert found.low == pytest.approx(wilson_interval(1.0, 4, 0.95)[0])
    assert found.n == 4
    assert (absent.value, absent.low, absent.n) == (None, None, 0)


def test_a_class_that_one_board_shows_is_not_proven_by_the_others() -> None:
    corners = ["x1_px", "y1_px", "x2_px", "y2_px"]
    truth = pd.DataFrame(
        [(f"p{k}", 0, 0, 0, 10, 10) for k in range(30)] + [(f"p{k}", 1, 20, 0, 30, 10) for k in range(2)],
        columns=["image_id", "class_id", *corners],
    )
    pictures, boards = [f"p{k}" for k in range(30)], [f"b{k // 2}" for k in range(30)]
    matches = match_detections(truth, truth.assign(score=0.9), pictures, [0, 1])
    sample = sample_ap(matches, resample_boards(boards, 200, np.random.default_rng(0)), boards)
    assert (sample.n_boards, sample.class_boards.tolist()) == (15, [15, 1])
    common, alone = class_ap50_intervals(sample, 0.95)
    assert common.low is not None
    assert (alone.value, alone.low, alone.high, alone.n) == (1, None, None, 2)


def test_latency_is_told_by_phase_and_against_the_teacher() -> None:
    times = times_of(np.random.default_rng(0), 200, teacher=1.0, student=0.4)
    summary = latency_summary(times, "student", "teacher", np.random.default_rng(1), 200, 0.95)
    ratio = summary["ratio_to_teacher"]
    assert ratio["low"] < 0.4 < ratio["high"]
    assert ratio["n"] == summary["rounds"] == 200
    own = times[times["engine"] == "student"]
    assert summary["inference_ms"]["p90"] == pytest.approx(np.quantile(own["inference_ms"], 0.9))


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (1.05, False), (0.95, False)])
def test_the_control_sees_an_engine_that_is_not_as_fast_as_itself(factor: float, ok: bool) -> None:
    times = times_of(np.random.default_rng(0), 200, teacher=1.0, again=factor)
    control = latency_control(times, "teacher", "again", np.random.default_rng(1))
    assert control["ok"] is ok
    assert control["value"] == pytest.approx(factor, abs=0.01)


def test_a_steady_machine_seldom_fails_the_control() -> None:
    generator = np.random.default_rng(3)
    controls = [
        latency_control(times_of(generator, 100, teacher=1.0, again=1.0), "teacher", "again", generator)
        for _ in range(60)
    ]
    assert sum(not control["ok"] for control in controls) <= 4


def test_latency_quantiles_rise() -> None:
    table = latency_quantiles(times_of(np.random.default_rng(0), 50, teacher=1.0, student=0.4))
    assert table.groupby("engine").size().to_dict() == {"teacher": 99, "student": 99}
    for _, own in table.groupby("engine"):
        assert (np.diff(own["total_ms"]) >= 0).all()


def test_a_class_without_objects_has_no_curve() -> None:
    truth, found, image_ids = random_tables(2)
    matches = match_detections(truth[truth["class_id"] != 1], found, image_ids, [0, 1, 2])
    table = precision_recall_table("e", matches, ["a", "b", "c"])
    assert table.groupby("class_name").size().to_dict() == {"a": 101, "c": 101}


def test_json_has_no_nan() -> None:
    assert known_or_none(float("nan")) is None
    assert known_or_none(float("inf")) is None
    assert known_or_none(np.float64(0.5)) == 0.5


IMAGES = pd.DataFrame(
    {
        "image_id": ["a", "b", "c"],
        "split": ["test", "train", "defect_free"],
        "path": ["1", "2", "3"],
        "group": ["g"] * 3,
    }
)
BOXES = pd.DataFrame({"image_id": ["a", "b"], "split": ["test", "train"], "class_id": [1, 0]})


def test_classes_that_only_engines_know_follow_those_of_the_data() -> None:
    known = {"teacher": (["x", "y"], []), "student": (["y", "x", "extra", "new"], ["extra", "new"])}
    judged = evaluation_set(IMAGES, BOXES, (["x", "y"], ["new"]), "d", known)
    assert judged.class_names == ("x", "y", "new", "extra")
    assert judged.judged_classes(["extra", "new"]) == ["x", "y", "extra", "new"]
    assert judged.class_ids(["extra", "x"]) == [3, 0]
    assert judged.image_ids("test") == ["a"]
    assert judged.boards("test") == ["g"]
    assert judged.image_ids("defect_free") == ["c"]
    assert judged.objects["image_id"].tolist() == ["a"]


def test_an_engine_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="engine 'student': its base classes \\['x', 'z'\\]"):
        evaluation_set(IMAGES, BOXES, (["x", "y"], []), "d", {"student": (["x", "z"], [])})
