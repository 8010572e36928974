from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.evaluation.gates import AGAIN_HERE, AGAIN_THERE, SEVERITY, engine_rules, gate_verdict, judge
from kd_steps.core.evaluation.intervals import Interval
from kd_steps.core.evaluation.limits import Limits

LIMITS = Limits(
    confidence_level=0.95,
    min_map_ratio=0.95,
    max_latency_ratio=0.5,
    min_compression_ratio=4.0,
    min_class_ap50=0.5,
    min_new_class_ap50=0.3,
    pass_unmeasured_new_classes=False,
    max_false_alarms_per_picture=0.5,
)
NUMBERS = st.floats(0, 10)
SIDES = st.sampled_from(["least", "most"])


def spread(value: float, half: float = 0.01, n: int = 100) -> dict[str, float | int | None]:
    return Interval(value, value - half, value + half, n).to_dict()


def teacher() -> dict[str, Any]:
    return {"parameters": 9_400_000}


def good_engine() -> dict[str, Any]:
    return {
        "confidence_level": 0.95,
        "parameters": 2_300_000,
        "map_ratio": spread(0.98),
        "per_class": {"bridge": {"is_new": False}, "shift": {"is_new": False}, "tombstone": {"is_new": True}},
        "per_class_ap50_interval": {"bridge": spread(0.9), "shift": spread(0.8), "tombstone": spread(0.6)},
        "false_alarms_per_picture": spread(0.1),
        "latency": {"ratio_to_teacher": spread(0.4)},
        "latency_control": {"ok": True, **spread(1.0)},
    }


@given(value=NUMBERS, below=NUMBERS, above=NUMBERS, limit=NUMBERS, side=SIDES)
def test_only_a_whole_interval_decides(value: float, below: float, above: float, limit: float, side: Any) -> None:
    low, high = value - below, value + above
    verdict = judge("r", "t", "it", Interval(value, low, high, 5), limit, side).verdict
    wrong_end, right_end = (low, high) if side == "least" else (-high, -low)
    bar = limit if side == "least" else -limit
    assert (verdict == "pass") == (wrong_end >= bar)
    assert (verdict == "fail") == (right_end < bar)


@given(value=NUMBERS, half=NUMBERS, better_by=NUMBERS, limit=NUMBERS, side=SIDES)
def test_a_better_measurement_never_has_a_worse_verdict(
    value: float, half: float, better_by: float, limit: float, side: Any
) -> None:
    better = value + better_by if side == "least" else value - better_by
    before = judge("r", "t", "it", Interval(value, value - half, value + half, 5), limit, side)
    after = judge("r", "t", "it", Interval(better, better - half, better + half, 5), limit, side)
    assert SEVERITY[after.verdict] <= SEVERITY[before.verdict]


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
@pytest.mark.parametrize("field", ["value", "low", "high"])
def test_what_is_not_measured_never_passes(field: str, unknown: float | None) -> None:
    measured = {"value": 1.0, "low": 1.0, "high": 1.0, "n": 3, field: unknown}
    rule = judge("r", "t", "it", Interval(**measured), 0.5, "least")  # type: ignore[arg-type]
    assert rule.verdict == "inconclusive"
    assert getattr(rule, field) is None
    assert "measured" in rule.reason or "without an interval" in rule.reason


def test_a_good_engine_passes_every_rule() -> None:
    verdict = gate_verdict({"teacher": teacher(), "onnx-fp32": good_engine()}, LIMITS, ["onnx-fp32"])
    assert verdict["passed"] is True
    assert verdict["targets"] == {"onnx-fp32": "pass"}
    assert [rule["name"] for rule in verdict["rules"]] == [
        "map_ratio", "latency_ratio", "compression_ratio", "class_ap50", "false_alarms", "new_class_ap50"
    ]  # fmt: skip
    fields = {"name", "target", "value", "limit", "low", "high", "n", "verdict"}
    assert all(fields <= set(rule) for rule in verdict["rules"])
    assert verdict["summary"] == ["Passed: 1 of 1 engines keep every limit; required: onnx-fp32."]
    json.dumps(verdict, allow_nan=False)


BROKEN = {
    "map_ratio": {"map_ratio": spread(0.9)},
    "latency_ratio": {"latency": {"ratio_to_teacher": spread(0.6)}},
    "compression_ratio": {"parameters": 2_400_000},
    "class_ap50": {"per_class_ap50_interval": {"bridge": spread(0.4), "shift": spread(0.8), "tombstone": spread(0.6)}},
    "new_class_ap50": {
        "per_class_ap50_interval": {"bridge": spread(0.9), "shift": spread(0.8), "tombstone": spread(0.2)}
    },
    "false_alarms": {"false_alarms_per_picture": spread(0.7)},
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_can_fail_alone_and_blocks(name: str) -> None:
    engines = {"teacher": teacher(), "onnx-fp32": good_engine() | BROKEN[name]}
    verdict = gate_verdict(engines, LIMITS, ["onnx-fp32"])
    assert [rule["name"] for rule in verdict["rules"] if rule["verdict"] == "fail"] == [name]
    assert verdict["passed"] is False
    assert verdict["targets"] == {"onnx-fp32": "fail"}
    assert name in verdict["summary"][1]


@pytest.mark.parametrize("missing", [k for k in good_engine() if k != "per_class"])
def test_a_measurement_that_is_missing_blocks(missing: str) -> None:
    engine = {name: value for name, value in good_engine().items() if name != missing}
    verdict = gate_verdict({"teacher": teacher(), "onnx-fp32": engine}, LIMITS, ["onnx-fp32"])
    assert verdict["passed"] is False
    assert any(rule["verdict"] == "inconclusive" for rule in verdict["rules"])
    json.dumps(verdict, allow_nan=False)


def test_nothing_measured_at_all_is_inconclusive_throughout() -> None:
    verdict = gate_verdict({"onnx-fp32": {}}, LIMITS, ["onnx-fp32"])
    assert {rule["verdict"] for rule in verdict["rules"]} == {"inconclusive"}
    assert verdict["passed"] is False


def test_an_optional_engine_blocks_only_itself() -> None:
    engines = {
        "teacher": teacher(),
        "onnx-fp32": good_engine(),
        "ort-cpu-int8": good_engine() | BROKEN["latency_ratio"],
    }
    verdict = gate_verdict(engines, LIMITS, ["onnx-fp32"])
    assert verdict["passed"] is True
    assert verdict["targets"] == {"onnx-fp32": "pass", "ort-cpu-int8": "fail"}
    assert "(optional)" in verdict["summary"][1]


def test_a_new_class_without_test_pictures_blocks_unless_the_line_says_otherwise() -> None:
    unseen = {"fuse": {"ap50": None, "ap50_95": None, "n_objects": 0, "is_new": True}}
    engine = good_engine() | {"per_class": good_engine()["per_class"] | unseen}
    engines = {"teacher": teacher(), "onnx-fp32": engine}
    assert gate_verdict(engines, LIMITS, ["onnx-fp32"])["passed"] is False
    lenient = replace(LIMITS, pass_unmeasured_new_classes=True)
    assert gate_verdict(engines, lenient, ["onnx-fp32"])["passed"] is True
    bad = engine | BROKEN["new_class_ap50"]
    assert gate_verdict({"teacher": teacher(), "onnx-fp32": bad}, lenient, ["onnx-fp32"])["passed"] is False


def test_the_student_before_few_shots_is_not_judged() -> None:
    before = good_engine() | BROKEN["latency_ratio"] | {"role": "base_student"}
    engines = {"teacher": teacher(), "onnx-fp32": good_engine(), "student-before": before}
    assert gate_verdict(engines, LIMITS, ["onnx-fp32"])["targets"] == {"onnx-fp32": "pass"}


def test_a_required_engine_that_was_not_evaluated_blocks() -> None:
    verdict = gate_verdict({"teacher": teacher(), "onnx-fp32": good_engine()}, LIMITS, ["onnx-fp32", "openvino-fp16"])
    assert verdict["passed"] is False
    assert verdict["targets"] == {"onnx-fp32": "pass", "openvino-fp16": "fail"}


def test_a_required_engine_that_could_not_be_built_is_told_with_its_reason() -> None:
    engines = {"teacher": teacher(), "onnx-fp32": good_engine()}
    verdict = gate_verdict(engines, LIMITS, ["openvino-fp16"], {"openvino-fp16": "its outputs differ"})
    assert [rule["reason"] for rule in verdict["rules"] if rule["target"] == "openvino-fp16"] == [
        "export left it out: its outputs differ"
    ]


def test_a_missed_latency_tells_by_how_much_how_busy_it_was_and_how_to_measure_again() -> None:
    here = {"where": "here", "load_per_core": 1.5}
    for steady in (True, False):
        engine = good_engine() | BROKEN["latency_ratio"] | {"measured": here, "latency_control": {"ok": steady}}
        (rule,) = [r for r in engine_rules("t", engine, teacher(), LIMITS) if r.name == "latency_ratio"]
        assert rule.verdict == ("fail" if steady else "inconclusive")
        for told in ("It missed by 20.0% of the limit", "a load of 1.50 a core", AGAIN_HERE):
            assert told in rule.reason
        assert ("The control failed" in rule.reason) is not steady
    (rule,) = [
        r
        for r in engine_rules("t", engine | {"measured": {"where": "line-2", "load_per_core": None}}, teacher(), LIMITS)
        if r.name == "latency_ratio"
    ]
    assert AGAIN_THERE in rule.reason
    assert "load" not in rule.reason


def test_no_required_engine_is_no_pass() -> None:
    assert gate_verdict({"teacher": teacher(), "onnx-fp32": good_engine()}, LIMITS, [])["passed"] is False


def test_a_failed_control_makes_the_latency_inconclusive() -> None:
    engine = good_engine() | {"latency_control": {"ok": False}}
    rules = {rule.name: rule for rule in engine_rules("onnx-fp32", engine, teacher(), LIMITS)}
    assert rules["latency_ratio"].verdict == "inconclusive"
    assert "control failed" in rules["latency_ratio"].reason
    assert rules["map_ratio"].verdict == "pass"


def test_intervals_of_another_confidence_decide_nothing() -> None:
    rules = engine_rules("onnx-fp32", good_engine() | {"confidence_level": 0.9}, teacher(), LIMITS)
    assert {rule.verdict for rule in rules} == {"inconclusive"}


def test_the_worst_class_is_the_one_with_the_worst_verdict_not_with_the_lowest_value() -> None:
    engine = good_engine()
    engine["per_class_ap50_interval"] |= {"bridge": spread(0.55, 0.01), "shift": spread(0.7, 0.3)}
    rule = next(r for r in engine_rules("t", engine, teacher(), LIMITS) if r.name == "class_ap50")
    assert rule.verdict == "inconclusive"
    assert "'shift'" in rule.reason


def test_a_class_without_test_objects_is_inconclusive() -> None:
    engine = good_engine()
    engine["per_class_ap50_interval"] |= {"tombstone": Interval(None, None, None, 0).to_dict()}
    rule = next(r for r in engine_rules("t", engine, teacher(), LIMITS) if r.name == "new_class_ap50")
    assert rule.verdict == "inconclusive"
    assert "'tombstone' could not be measured" in rule.reason


def test_every_rule_is_held_against_its_own_limit() -> None:
    rules = engine_rules("t", good_engine(), teacher(), LIMITS)
    assert {rule.name: rule.limit for rule in rules} == {
        "map_ratio": LIMITS.min_map_ratio,
        "latency_ratio": LIMITS.max_latency_ratio,
        "compression_ratio": LIMITS.min_compression_ratio,
        "class_ap50": LIMITS.min_class_ap50,
        "false_alarms": LIMITS.max_false_alarms_per_picture,
        "new_class_ap50": LIMITS.min_new_class_ap50,
    }
    assert LIMITS.min_class_ap50 != LIMITS.min_new_class_ap50


@pytest.mark.parametrize(("bridge", "shift"), [(0.9, 0.8), (0.2, 0.1)])
def test_among_classes_of_one_verdict_the_lowest_is_told(bridge: float, shift: float) -> None:
    engine = good_engine()
    engine["per_class_ap50_interval"] |= {"bridge": spread(bridge), "shift": spread(shift)}
    rule = next(r for r in engine_rules("t", engine, teacher(), LIMITS) if r.name == "class_ap50")
    assert "'shift'" in rule.reason
