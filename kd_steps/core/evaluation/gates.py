"""The gate: measurements against limits, decided on intervals and not on means.

A rule passes only if its whole interval lies on the right side of the limit and fails only if the whole interval lies
on the wrong side. Anything between, and anything that could not be measured, is inconclusive, which blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kd_steps.core.evaluation.intervals import Interval
from kd_steps.core.evaluation.limits import Limits

Verdict = Literal["pass", "fail", "inconclusive"]
SEVERITY: dict[Verdict, int] = {"pass": 0, "inconclusive": 1, "fail": 2}
UNKNOWN = Interval(None, None, None, None)

REFERENCES = ("teacher", "base_student")  # roles that never ship
HERE = "here"  # else, the name of the bundle from the machine where an engine was measured
AGAIN_HERE = "`rm -r evaluation/bundles && dvc repro -f -s evaluate && dvc repro`"
AGAIN_THERE = "`python -m kd_steps.edge measure` there"


@dataclass(frozen=True)
class Rule:
    """One limit applied to one engine; ``reason`` is the verdict in plain words."""

    name: str
    target: str
    value: float | None
    limit: float | None
    low: float | None
    high: float | None
    n: int | None
    verdict: Verdict
    reason: str


def judge(name: str, target: str, what: str, measured: Interval, limit: float, side: Literal["least", "most"]) -> Rule:
    """Hold one measurement against its limit.

    Args:
        name: of the rule.
        target: the engine's.
        what: the quantity in plain words, to begin a sentence with.
        measured: a value with its interval; None or a number that is not finite where it is unknown.
        limit: the least or the most that is allowed; the limit itself is allowed.
        side: which of the two.
    """
    value, low, high = (_finite(number) for number in (measured.value, measured.low, measured.high))
    bound = f"at {side} {limit:g} is asked"
    if value is None or low is None or high is None:
        told = f"{what} could not be measured" if value is None else f"{what} is {value:.4g} without an interval"
        return Rule(name, target, value, limit, low, high, measured.n, "inconclusive", f"{told}; {bound}")
    passed, failed = (low >= limit, high < limit) if side == "least" else (high <= limit, low > limit)
    verdict: Verdict = "pass" if passed else "fail" if failed else "inconclusive"
    told = f"{what} is {value:.4g} ({low:.4g} to {high:.4g}, n = {measured.n}); {bound}"
    if verdict == "inconclusive":
        told += ", which lies inside the interval: measure more"
    return Rule(name, target, value, limit, low, high, measured.n, verdict, told)


def engine_rules(target: str, engine: Mapping[str, Any], teacher: Mapping[str, Any], limits: Limits) -> list[Rule]:
    """All rules of one engine.

    Args:
        target: the engine's target.
        engine: its entry of the engine report.
        teacher: the teacher's entry.
        limits: what it must keep.
    """
    ap, alarms = _interval(engine, "map_ratio"), _interval(engine, "false_alarms_per_picture")
    smaller = _compression(engine, teacher)
    rules = [
        judge("map_ratio", target, "mAP50-95 against the teacher's", ap, limits.min_map_ratio, "least"),
        _latency_rule(target, engine, limits),
        judge("compression_ratio", target, "compression in parameters", smaller, limits.min_compression_ratio, "least"),
        _worst_class_rule("class_ap50", target, engine, _class_names(engine, new=False), limits.min_class_ap50),
        judge("false_alarms", target, "false alarms a picture", alarms, limits.max_false_alarms_per_picture, "most"),
    ]
    if new := _judged_new_classes(engine, limits):
        rules.append(_worst_class_rule("new_class_ap50", target, engine, new, limits.min_new_class_ap50))
    measured_at = engine.get("confidence_level")
    if measured_at != limits.confidence_level:
        reason = f"intervals were measured at a confidence of {measured_at}, not {limits.confidence_level}; `dvc repro`"
        return [Rule(**{**asdict(rule), "verdict": "inconclusive", "reason": reason}) for rule in rules]
    return rules


def gate_verdict(
    engines: Mapping[str, Mapping[str, Any]],
    limits: Limits,
    required_targets: Sequence[str],
    left_out: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole verdict as JSON values.

    Args:
        engines: an entry for the teacher and one for each engine; all are judged but the teacher and the student
            before few shots, which are there to compare with.
        limits: what every engine must keep.
        required_targets: the engines that must pass; the others are judged too, and block only themselves.
        left_out: targets that could not be built, and why.

    Returns:
        passed, the rules, a verdict for each target, and a summary in plain words.
    """
    teacher = engines.get("teacher", {})
    judged = [name for name, engine in engines.items() if engine.get("role") not in REFERENCES and name != "teacher"]
    targets = list(dict.fromkeys([*required_targets, *judged]))
    rules: list[Rule] = []
    for target in targets:
        if target in engines:
            rules += engine_rules(target, engines[target], teacher, limits)
        else:
            why = (left_out or {}).get(target)
            reason = f"export left it out: {why}" if why else "no engine of this required target was evaluated"
            rules.append(Rule("evaluated", target, None, None, None, None, None, "inconclusive", reason))
    verdicts = {t: _pass_or_fail(rule.verdict for rule in rules if rule.target == t) for t in targets}
    passed = bool(required_targets) and all(verdicts[target] == "pass" for target in required_targets)
    return {
        "passed": passed,
        "rules": [asdict(rule) for rule in rules],
        "targets": verdicts,
        "releases": {target: engines.get(target, {}).get("release_digest") for target in targets},
        "required_targets": list(required_targets),
        "confidence_level": limits.confidence_level,
        "summary": _summary(passed, rules, verdicts, required_targets),
    }


def _latency_rule(target: str, engine: Mapping[str, Any], limits: Limits) -> Rule:
    """The latency rule; without a control that measured the teacher as fast as itself, it says nothing.

    Where it is not passed, it tells by how much, how busy the machine was, and how to measure again.
    """
    latency, place = engine.get("latency") or {}, engine.get("measured") or {}
    ratio, limit = _interval(latency, "ratio_to_teacher"), limits.max_latency_ratio
    rule = judge("latency_ratio", target, "latency against the teacher's", ratio, limit, "most")
    steady = (engine.get("latency_control") or {}).get("ok") is True
    if steady and rule.verdict == "pass":
        return rule
    told = [rule.reason]
    if rule.value is not None and rule.value > limit:
        told.append(f"It missed by {rule.value / limit - 1:.1%} of the limit")
    if not steady:
        told.append(
            "The control failed: the teacher timed twice was not as fast as itself, so the machine was not steady "
            "enough"
        )
    if (load := _finite(place.get("load_per_core"))) is not None:
        told.append(f"The machine had a load of {load:.2f} a core, the measurement itself among it")
    again = AGAIN_HERE if place.get("where", HERE) == HERE else AGAIN_THERE
    told.append(f"To measure again, if it was busy: {again}")
    return Rule(**{**asdict(rule), "verdict": rule.verdict if steady else "inconclusive", "reason": ". ".join(told)})


def _worst_class_rule(name: str, target: str, engine: Mapping[str, Any], classes: Sequence[str], limit: float) -> Rule:
    """The rule for the class with the worst verdict, among equals for the one with the lowest interval."""
    kind = "new class" if name == "new_class_ap50" else "class"
    intervals = engine.get("per_class_ap50_interval") or {}
    rules = [judge(name, target, f"AP50 of {kind} '{c}'", _interval(intervals, c), limit, "least") for c in classes]
    if not rules:
        return judge(name, target, f"AP50 of every {kind}", UNKNOWN, limit, "least")
    return max(rules, key=lambda rule: (SEVERITY[rule.verdict], -math.inf if rule.low is None else -rule.low))


def _class_names(engine: Mapping[str, Any], *, new: bool) -> list[str]:
    return [name for name, entry in (engine.get("per_class") or {}).items() if bool(entry.get("is_new")) is new]


def _judged_new_classes(engine: Mapping[str, Any], limits: Limits) -> list[str]:
    """New classes that must keep the floor: all, or only those that the test pictures show."""
    new = _class_names(engine, new=True)
    if not limits.pass_unmeasured_new_classes:
        return new
    return [name for name in new if engine["per_class"][name].get("n_objects") != 0]


def _compression(engine: Mapping[str, Any], teacher: Mapping[str, Any]) -> Interval:
    """Teacher parameters for one of the engine's: counted, not sampled, so the interval is the value."""
    mine, theirs = _finite(engine.get("parameters")), _finite(teacher.get("parameters"))
    if not mine or not theirs:
        return UNKNOWN
    return Interval(theirs / mine, theirs / mine, theirs / mine, 1)


def _interval(values: Mapping[str, Any], name: str) -> Interval:
    """A stored interval; unknown where it is missing."""
    stored = values.get(name) or {}
    return Interval(stored.get("value"), stored.get("low"), stored.get("high"), stored.get("n"))


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None


def _pass_or_fail(verdicts: Any) -> Literal["pass", "fail"]:
    """A target passes if it was judged and every rule passes."""
    seen = list(verdicts)
    return "pass" if seen and all(verdict == "pass" for verdict in seen) else "fail"


def _summary(passed: bool, rules: Sequence[Rule], verdicts: Mapping[str, str], required: Sequence[str]) -> list[str]:
    """The verdict first, then one line for each rule that is not passed."""
    good = [target for target, verdict in verdicts.items() if verdict == "pass"]
    head = "Passed" if passed else "Not passed"
    lines = [f"{head}: {len(good)} of {len(verdicts)} engines keep every limit; required: {', '.join(required)}."]
    return lines + [
        f"{rule.target}{'' if rule.target in required else ' (optional)'}: {rule.name} "
        f"{'fails' if rule.verdict == 'fail' else 'is inconclusive'}: {rule.reason}."
        for rule in rules
        if rule.verdict != "pass"
    ]
