from dossier_fixture import engines_metrics, gate_verdict

from kd_steps.core.evaluation.verdicts import failing_rules, passed_targets
from kd_steps.core.report.dossier_tables import (
    chain_rows,
    class_rows,
    engine_rows,
    failures,
    few_shot_rows,
    gate_rows,
    headline,
)


def test_a_failed_gate_leads_and_names_the_engine():
    gate = gate_verdict(passed=False)
    assert "openvino-fp16 did not pass" in headline(gate)
    assert gate_rows(gate)[0].verdict == "fail"
    assert len(failures(gate, required=True)) == len(failing_rules(gate)) == 1
    assert passed_targets(gate) == []


def test_an_optional_failure_does_not_block_the_others():
    gate = gate_verdict(optional_fails=True)
    assert gate["passed"]
    assert failures(gate, required=True) == []
    assert "0.53" in failures(gate, required=False)[0]
    assert passed_targets(gate) == ["onnx-fp32", "openvino-fp16"]


def test_every_rule_has_its_row():
    gate = gate_verdict()
    assert {(r.rule, r.target) for r in gate_rows(gate)} == {(r["name"], r["target"]) for r in gate["rules"]}


def test_a_class_that_the_teacher_does_not_know_is_last_and_empty_for_it():
    row = class_rows(engines_metrics()["engines"])[-1]
    assert (row.name, row.is_new, row.ap["teacher"]) == ("tombstone", True, None)
    assert row.ap["onnx-fp32"] is not None


def test_what_was_not_measured_is_a_dash():
    rows = engine_rows({"a": {"per_class": {}, "map50_95": None}})
    assert rows[0]["map50_95"] == rows[0]["p99"] == rows[0]["size"] == rows[0]["ratio"] == "–"


def test_few_shot_before_and_after():
    metrics = {"new_classes": ["tombstone"], "shots": {"tombstone": 10}}
    before = {"map50_95": 0.5, "map50": None}
    after = {"map50_95": 0.45, "map50": 0.7, "per_class": {"tombstone": {"ap50": 0.5}}}
    found = few_shot_rows(metrics, before, after)
    assert found["rows"] == [
        ("mAP50-95 on the classes it knew", "0.500", "0.450", "-0.050"),
        ("mAP50 on the classes it knew", "–", "0.700", "–"),
        ("AP50 of tombstone (new)", "–", "0.500", "–"),
    ]
    assert found["numbers"] == {"shots of tombstone": "10"}


def test_without_new_parts_there_is_no_before_and_after():
    assert few_shot_rows({"new_classes": [], "epochs": 0}, {"map50": 0.5}, {})["rows"] == []


def test_the_chain_ends_in_the_student_and_is_empty_where_nobody_else_taught():
    student = {"model": "yolo11n.yaml", "parameters": 2_590_000, "training": {"val_map50_95": 0.6}}
    chain = [{"name": "teacher", "model": "yolo11s.yaml", "parameters": 9_430_000, "val_map50_95": None}]
    assert chain_rows(student | {"lineage": {"taught_by": "teacher", "chain": chain}}) == [
        ("teacher", "yolo11s.yaml", "9.43 M", "–"),
        ("student", "yolo11n.yaml", "2.59 M", "0.600"),
    ]
    assert chain_rows(student | {"lineage": {"taught_by": "ema"}}) == chain_rows({}) == []
