import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.report.leaves import numeric_leaves, safe_name, text_leaves

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def count_numbers(values):
    if isinstance(values, dict):
        return sum(count_numbers(v) for v in values.values())
    if isinstance(values, list):
        return sum(count_numbers(v) for v in values)
    return int(isinstance(values, (bool, int, float)) and math.isfinite(values))


@given(json_values)
def test_no_number_is_lost_and_none_is_invented(values):
    found = numeric_leaves(values, limit=20)
    assert len(found) == count_numbers(values)
    assert all(0 < len(name) <= 20 for name in found)


@given(json_values)
def test_texts_keep_both_limits(values):
    found = text_leaves(values, name_limit=20, text_limit=30)
    assert all(0 < len(name) <= 20 and len(text) <= 30 for name, text in found.items())


def test_rules_of_a_gate_are_named_by_rule_and_target():
    rules = [{"name": "map_ratio", "target": "onnx-fp32", "value": 0.97, "verdict": "pass"}]
    assert numeric_leaves({"passed": True, "rules": rules}) == {"passed": 1.0, "rules/map_ratio/onnx-fp32/value": 0.97}


def test_text_leaves_of_a_section():
    section = {"epochs": 3, "phases": {"warm_up": {"fraction": 0.2}}, "classes": ["a", "b"], "weights": None}
    assert text_leaves(section) == {
        "epochs": "3",
        "phases.warm_up.fraction": "0.2",
        "classes": '["a", "b"]',
        "weights": "null",
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("metrics/mAP50-95(B)", "metrics/mAP50-95_B"),
        ("   train/box_loss", "train/box_loss"),
        ("../../etc", "_/_/etc"),
        ("", "_"),
        ("pièce", "pi_ce-33769aca"),
    ],
)
def test_safe_name(name, expected):
    assert safe_name(name) == expected


def test_long_names_that_share_a_beginning_stay_two():
    names = {safe_name("x" * 300 + end, 250) for end in "ab"}
    assert len(names) == 2
    assert all(len(name) == 250 for name in names)


def test_a_long_text_says_by_its_digest_that_it_changed():
    first, second = (text_leaves({"k": "y" * 7000 + end})["k"] for end in "ab")
    assert len(first) == 6000
    assert first != second
