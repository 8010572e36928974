"""What the pipeline left, for a person."""

import json

from flows.verdict import COLUMNS, DOSSIER, failing_lines, markdown, read, rule_cells

RULE = {"target": "a", "name": "map_ratio", "verdict": "fail", "value": 0.91234, "low": None, "limit": 0.95, "n": 3}
GATE = {
    "passed": False,
    "summary": ["a is not registered"],
    "required_targets": ["a"],
    "rules": [RULE | {"reason": "below"}, RULE | {"target": "b", "reason": "below"}],
}
RECEIPT = {"tracking_uri": "http://here:5000", "models": [{"name": "retort-a", "version": "3"}]}


def project(folder, gate):
    (folder / "metrics").mkdir()
    (folder / "metrics/gate.json").write_text(json.dumps(gate))
    (folder / "metrics/registration.json").write_text(json.dumps(RECEIPT))
    return folder


def test_a_file_that_no_stage_has_written_is_none(tmp_path):
    assert read(tmp_path, DOSSIER) is None


def test_only_rules_of_required_targets_are_failures():
    assert failing_lines(GATE) == ["map_ratio of a: fail: below"]


def test_a_rule_is_a_row_of_cells():
    assert rule_cells(RULE) == ["a", "map_ratio", "fail", "0.9123", "–", "–", "0.95", "3"]
    assert len(rule_cells(RULE)) == len(COLUMNS)


def test_the_page_leaves_out_what_this_run_did_not_come_to(tmp_path):
    root = project(tmp_path, GATE)
    assert "Gate" not in markdown(root, {"train": "ran"})
    page = markdown(root, {"gate": "ran", "register": "was not run"})
    assert "# Gate: not passed\n\na is not registered" in page
    assert "| a | map_ratio | fail |" in page
    assert "Registered" not in page, "a receipt of an earlier run"
    assert str(root / DOSSIER) in page


def test_the_page_names_what_was_registered(tmp_path):
    page = markdown(project(tmp_path, GATE | {"passed": True}), {"gate": "ran", "register": "ran"})
    assert "- MLflow: [http://here:5000](http://here:5000)" in page
    assert "- Registered: retort-a version 3" in page


def test_a_bar_in_an_outcome_does_not_end_its_cell(tmp_path):
    assert "| gate | a \\| b |" in markdown(tmp_path, {"gate": "a | b"})
