"""The gate's rules in words, and what may be registered."""

import pytest

from kd_steps.core.evaluation.verdicts import failing_rules, passed_targets, rule_in_words, shown


def rule(**changes):
    plain = {"name": "map_ratio", "target": "a", "value": 0.91234, "limit": 0.9, "low": 0.88, "high": 0.94, "n": 12}
    return {**plain, "verdict": "pass", "reason": "above the limit", **changes}


GATE = {
    "passed": True,
    "targets": {"a": "pass", "b": "fail"},
    "rules": [rule(), rule(verdict="inconclusive"), rule(target="b", verdict="fail", value=None)],
}


def test_a_rule_in_words_has_all_its_numbers():
    told = "map_ratio of a is 0.9123, the limit is 0.9 (interval 0.88 to 0.94, n = 12): pass; above the limit"
    assert rule_in_words(rule()) == told


@pytest.mark.parametrize(("value", "told"), [(None, "unknown"), (0, "0"), (123456.0, "1.235e+05")])
def test_a_number_has_four_digits(value, told):
    assert shown(value) == told


def test_what_did_not_pass_is_told_of_all_or_of_some():
    assert len(failing_rules(GATE)) == 2
    assert [line.split(":")[1] for line in failing_rules(GATE, ["a"])] == [" inconclusive; above the limit"]
    assert "of b is unknown" in failing_rules(GATE, {"b"})[0]


def test_nothing_is_registered_unless_the_whole_gate_passed():
    assert passed_targets(GATE) == ["a"]
    assert passed_targets({**GATE, "passed": False}) == []
