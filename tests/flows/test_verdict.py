"""What the pipeline left, for a person."""

import json

import pytest
from verdict_documents import FAILED, gate_json, receipt_json

from flows.verdict import COLUMNS, failing_lines, markdown, read_gate, read_receipt, rule_cells
from kd_steps.artifacts import GateRule, GateVerdict, paths

OTHER = {**FAILED, "target": "b", "low": None, "value": 0.91234}


def project(folder, gate):
    (folder / "metrics").mkdir()
    (folder / "metrics/gate.json").write_text(json.dumps(gate))
    (folder / ".retort").mkdir()
    (folder / ".retort/registration.json").write_text(json.dumps(receipt_json("http://here:5000", ("3",))))
    return folder


def test_a_document_that_no_stage_has_written_is_none(tmp_path):
    assert read_gate(tmp_path) is None
    assert read_receipt(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", json.dumps(gate_json() | {"schema": 2}), json.dumps({"passed": True})])
def test_one_that_cannot_be_used_is_named_with_the_mend(tmp_path, text):
    (project(tmp_path, {}) / "metrics/gate.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics/gate\.json: .*`dvc repro` makes it again"):
        read_gate(tmp_path)


def test_only_rules_of_required_targets_are_failures():
    gate = GateVerdict.model_validate(gate_json(False, (FAILED, OTHER)))
    assert failing_lines(gate) == ["map_ratio of onnx-fp32: fail: 0.9 is below 0.95"]


def test_a_rule_is_a_row_of_cells():
    cells = rule_cells(GateRule.model_validate(OTHER))
    assert cells == ["b", "map_ratio", "fail", "0.9123", "–", "0.92", "0.95", "240"]
    assert len(cells) == len(COLUMNS)


def test_the_page_leaves_out_what_this_run_did_not_come_to(tmp_path):
    root = project(tmp_path, gate_json(False, (FAILED,), summary=["a is not registered"]))
    assert "Gate" not in markdown(root, {"train": "ran"})
    page = markdown(root, {"gate": "ran", "register": "was not run"})
    assert "# Gate: not passed\n\na is not registered" in page
    assert "| onnx-fp32 | map_ratio | fail |" in page
    assert "Registered" not in page, "a receipt of an earlier run"
    assert str(root / paths.DOSSIER) in page


def test_the_page_names_what_was_registered(tmp_path):
    page = markdown(project(tmp_path, gate_json()), {"gate": "ran", "register": "ran"})
    assert "- MLflow: [http://here:5000](http://here:5000)" in page
    assert "- Registered: retort-onnx-fp32 version 3" in page


def test_a_bar_in_an_outcome_does_not_end_its_cell(tmp_path):
    assert "| gate | a \\| b |" in markdown(tmp_path, {"gate": "a | b"})
