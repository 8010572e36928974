"""The gate's rules in words. One rule is a mapping: name, target, value, limit, low, high, n, verdict, reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

PASS = "pass"


def shown(value: float | None) -> str:
    """A measured number with four significant digits; ``unknown`` where nothing was measured."""
    return "unknown" if value is None else f"{value:.4g}"


def rule_in_words(rule: Mapping[str, Any]) -> str:
    """One line: rule, target, value, limit, interval and sample size, the verdict and its reason."""
    return (
        f"{rule['name']} of {rule['target']} is {shown(rule['value'])}, the limit is {shown(rule['limit'])} "
        f"(interval {shown(rule['low'])} to {shown(rule['high'])}, n = {shown(rule['n'])}): "
        f"{rule['verdict']}; {rule['reason']}"
    )


def failing_rules(gate: Mapping[str, Any], targets: Collection[str] | None = None) -> list[str]:
    """One line for each rule that did not pass, of ``targets`` or of all."""
    rules = [rule for rule in gate["rules"] if rule["verdict"] != PASS]
    return [rule_in_words(rule) for rule in rules if targets is None or rule["target"] in targets]


def passed_targets(gate: Mapping[str, Any]) -> list[str]:
    """The targets that may be registered: none unless the whole gate passed."""
    return [target for target, verdict in gate["targets"].items() if gate["passed"] and verdict == PASS]
