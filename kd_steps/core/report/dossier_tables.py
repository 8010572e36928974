"""The tables of the dossier page, as rows of text: what stands in ``metrics/``, in words that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kd_steps.core.evaluation.verdicts import PASS, shown
from kd_steps.core.report.svg_charts import interval_bar

RULE_WORDS = {
    "map_ratio": "Accuracy, share of the teacher's mAP50-95",
    "latency_ratio": "Latency, share of the teacher's",
    "compression_ratio": "Parameters, times fewer than the teacher",
    "class_ap50": "AP50 of the worst base class",
    "new_class_ap50": "AP50 of the worst new class",
    "false_alarms": "False alarms per defect-free picture",
    "evaluated": "Evaluated",
}


@dataclass(frozen=True)
class GateRow:
    """One rule for one target, ready to show; ``bar`` is an SVG of the interval against the limit."""

    rule: str
    words: str
    target: str
    value: str
    interval: str
    limit: str
    n: str
    verdict: str
    reason: str
    bar: str


@dataclass(frozen=True)
class ClassRow:
    """One class: its objects and (AP50, AP50-95) of each engine, None where an engine does not know it."""

    name: str
    is_new: bool
    n_objects: int
    ap: dict[str, tuple[str, str] | None]
    worst_ap50: float


def headline(gate: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    required = ", ".join(gate["required_targets"])
    if gate["passed"]:
        return f"The student may replace the teacher: {required} {'keep' if ',' in required else 'keeps'} every limit."
    blocked = [target for target in gate["required_targets"] if gate["targets"].get(target) != PASS]
    return f"The student may not replace the teacher yet: {', '.join(blocked)} did not pass. Nothing is registered."


def failures(gate: Mapping[str, Any], required: bool) -> list[str]:
    """One line for each rule that a required (or an optional) target did not pass, with the gate's reason."""
    return [
        f"{rule['target']}, {RULE_WORDS.get(rule['name'], rule['name'])}: {rule['verdict']}. {rule['reason']}"
        for rule in gate["rules"]
        if rule["verdict"] != PASS and (rule["target"] in gate["required_targets"]) is required
    ]


def key_figures(gate: Mapping[str, Any], target: str) -> list[tuple[str, str, str]]:
    """(figure, what it is, verdict) of one target, for the top of the page."""
    figures = []
    for rule in gate["rules"]:
        if rule["target"] == target and rule["value"] is not None and rule["name"] in RULE_WORDS:
            share = rule["name"] in ("map_ratio", "latency_ratio")
            value = f"{rule['value']:.1%}" if share else f"{rule['value']:.3g}"
            figures.append((value, RULE_WORDS[rule["name"]], rule["verdict"]))
    return figures


def gate_rows(gate: Mapping[str, Any]) -> list[GateRow]:
    """The gate's table; what did not pass comes first."""
    rows = []
    for rule in sorted(gate["rules"], key=lambda r: r["verdict"] == PASS):
        low, value, high, limit = (rule[name] for name in ("low", "value", "high", "limit"))
        rows.append(
            GateRow(
                rule=rule["name"],
                words=RULE_WORDS.get(rule["name"], rule["name"]),
                target=rule["target"],
                value=shown(value),
                interval="–" if low is None or high is None else f"{shown(low)} – {shown(high)}",
                limit=shown(limit),
                n=shown(rule["n"]),
                verdict=rule["verdict"],
                reason=rule["reason"],
                bar=interval_bar(low, value, high, limit, rule["verdict"] == PASS),
            )
        )
    return rows


def class_rows(engines: Mapping[str, Any]) -> list[ClassRow]:
    """Every class that any engine is judged on, base classes first."""
    found: dict[str, bool] = {}
    for engine in engines.values():
        for name, entry in engine["per_class"].items():
            found[name] = bool(entry.get("is_new"))
    rows = []
    for name, is_new in sorted(found.items(), key=lambda item: item[1]):
        entries = {e: values["per_class"].get(name) for e, values in engines.items()}
        known = [entry for entry in entries.values() if entry]
        worst = min((entry["ap50"] for entry in known if entry["ap50"] is not None), default=1.0)
        ap = {e: (shown_ap(v["ap50"]), shown_ap(v["ap50_95"])) if v else None for e, v in entries.items()}
        rows.append(ClassRow(name, is_new, int(known[0]["n_objects"]), ap, worst))
    return rows


def engine_rows(engines: Mapping[str, Any]) -> list[dict[str, str]]:
    """Accuracy, size and latency of each engine as text, the teacher first as it comes."""
    rows = []
    for name, engine in engines.items():
        latency = engine.get("latency") or {}
        total, ratio = latency.get("total_ms") or {}, latency.get("ratio_to_teacher") or {}
        inner = {phase: (latency.get(f"{phase}_ms") or {}) for phase in ("preprocess", "inference", "postprocess")}
        rows.append(
            {
                "engine": name,
                "state": str(engine.get("state", "")),
                "release": str(engine.get("release_digest") or ""),
                "digest": str(engine.get("engine_digest") or ""),
                "map50_95": shown_ap(engine.get("map50_95")),
                "map50": shown_ap(engine.get("map50")),
                "map75": shown_ap(engine.get("map75")),
                "parameters": _millions(engine.get("parameters")),
                "size": f"{engine['bytes'] / 1e6:.1f} MB" if engine.get("bytes") else "–",
                **{f"{phase}_p50": _ms(times.get("p50")) for phase, times in inner.items()},
                **{q: _ms(total.get(q)) for q in ("p50", "p90", "p99")},
                "ratio": "–"
                if ratio.get("value") is None
                else f"{ratio['value']:.2f} ({shown(ratio.get('low'))} – {shown(ratio.get('high'))})",
            }
        )
    return rows


def chain_rows(student: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(name, model, weights, mAP50-95 on the validation split) of those who taught, the first teacher first, and of
    the student; nothing where no other network taught it.

    Args:
        student: the student's sidecar.
    """
    chain = (student.get("lineage") or {}).get("chain")
    if not chain:
        return []
    score = student["training"].get("val_map50_95")
    own = {"name": "student", "model": student["model"], "parameters": student["parameters"], "val_map50_95": score}
    return [
        (each["name"], each["model"], _millions(each["parameters"]), shown_ap(each["val_map50_95"]))
        for each in (*chain, own)
    ]


def few_shot_rows(
    metrics: Mapping[str, Any], before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> dict[str, Any]:
    """Before and after the few-shot stage, on the test pictures: rows (name, before, after, change) and the shots.

    Args:
        metrics: ``metrics/few_shot.json``.
        before: entry of the student before new parts in ``metrics/engines.json``, if there is one.
        after: entry of the same kind of engine afterwards.
    """
    if not metrics.get("new_classes") or before is None:
        return {"rows": [], "numbers": {}}
    pairs = {
        f"{told} on the classes it knew": (before.get(key), after.get(key))
        for key, told in (("map50_95", "mAP50-95"), ("map50", "mAP50"))
    }
    for name in metrics["new_classes"]:
        pairs[f"AP50 of {name} (new)"] = (None, ((after.get("per_class") or {}).get(name) or {}).get("ap50"))
    rows = [
        (name, shown_ap(old), shown_ap(new), f"{new - old:+.3f}" if old is not None and new is not None else "–")
        for name, (old, new) in pairs.items()
    ]
    shots = {f"shots of {name}": shown(count) for name, count in (metrics.get("shots") or {}).items()}
    return {"rows": rows, "numbers": shots}


def shown_ap(value: float | None) -> str:
    """An average precision with three decimals; a dash where there was nothing to find."""
    return "–" if value is None else f"{value:.3f}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _millions(count: int | None) -> str:
    return f"{count / 1e6:.2f} M" if count else "–"
