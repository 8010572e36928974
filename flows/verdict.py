"""What the pipeline left for a person: the gate's verdict, the registered engines, and where to look next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GATE, RECEIPT, DOSSIER = Path("metrics/gate.json"), Path("metrics/registration.json"), Path("report/index.html")
COLUMNS = ("target", "name", "verdict", "value", "low", "high", "limit", "n")


def read(root: Path, path: Path) -> dict[str, Any] | None:
    """A JSON file of the project, or None where no stage has written it."""
    file = root / path
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def failing_lines(gate: dict[str, Any]) -> list[str]:
    """Rule, target and the gate's reason, for each rule that a required target did not pass."""
    return [
        f"{rule['name']} of {rule['target']}: {rule['verdict']}: {rule['reason']}"
        for rule in gate["rules"]
        if rule["verdict"] != "pass" and rule["target"] in gate["required_targets"]
    ]


def rule_cells(rule: dict[str, Any]) -> list[str]:
    """One rule as the cells of :data:`COLUMNS`."""
    return [f"{v:.4g}" if isinstance(v, (int, float)) else "–" if v is None else v for v in map(rule.get, COLUMNS)]


def markdown(root: Path, outcomes: dict[str, str]) -> str:
    """Stages, gate and links as Markdown, for Prefect's page; what this run did not come to is left out."""
    gate = read(root, GATE) if "gate" in outcomes else None
    receipt = read(root, RECEIPT) if "register" in outcomes else None
    parts = ["# Stages", _table(("stage", "outcome"), [list(pair) for pair in outcomes.items()])]
    if gate:
        parts += [f"# Gate: {'passed' if gate['passed'] else 'not passed'}", *gate["summary"]]
        parts.append(_table(COLUMNS, [rule_cells(rule) for rule in gate["rules"]]))
    parts += ["# Where to look", f"- Dossier: `{(root / DOSSIER).resolve()}`"]
    if receipt and gate and gate["passed"]:
        uri = receipt["tracking_uri"]
        parts.append(
            f"- MLflow: [{uri}]({uri})" if uri.startswith("http") else f"- MLflow: `{uri}`, shown by `make ui`"
        )
        parts += [f"- Registered: {m['name']} version {m['version']}" for m in receipt["models"]]
    return "\n\n".join(parts)


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
