"""What the pipeline left for a person: the gate's verdict, the registered engines, and where to look next."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from kd_steps.artifacts import Document, GateRule, GateVerdict, Receipt, paths

D = TypeVar("D", bound=Document)

COLUMNS = ("target", "name", "verdict", "value", "low", "high", "limit", "n")


def read_gate(root: Path) -> GateVerdict | None:
    """The gate's verdict on a project, or None where it has not given one."""
    return _read(root / paths.GATE, GateVerdict)


def read_receipt(root: Path) -> Receipt | None:
    """What a project has registered, or None where that is nothing."""
    return _read(root / paths.RECEIPT, Receipt) or _read(root / paths.RECEIPT_BEFORE, Receipt)


def is_of(receipt: Receipt, gate: GateVerdict) -> bool:
    """Whether a receipt names the releases that the gate judged, not those of an earlier run."""
    return {model.release_digest for model in receipt.models} <= {*gate.releases.values()}


def _read(path: Path, kind: type[D]) -> D | None:
    """A document of the project, or None where no stage has written it.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    return kind.read(path) if path.is_file() else None


def failing_lines(gate: GateVerdict) -> list[str]:
    """Rule, target and the gate's reason, for each rule that a required target did not pass."""
    return [
        f"{rule.name} of {rule.target}: {rule.verdict}: {rule.reason}"
        for rule in gate.rules
        if rule.verdict != "pass" and rule.target in gate.required_targets
    ]


def rule_cells(rule: GateRule) -> list[str]:
    """One rule as the cells of :data:`COLUMNS`."""
    values = (getattr(rule, column) for column in COLUMNS)
    return [f"{v:.4g}" if isinstance(v, (int, float)) else "–" if v is None else v for v in values]


def markdown(root: Path, outcomes: dict[str, str]) -> str:
    """Stages, gate and links as Markdown, for Prefect's page; what this run did not come to is left out."""
    gate = read_gate(root) if "gate" in outcomes else None
    receipt = read_receipt(root) if "register" in outcomes else None
    parts = ["# Stages", _table(("stage", "outcome"), [list(pair) for pair in outcomes.items()])]
    if gate:
        parts += [f"# Gate: {'passed' if gate.passed else 'not passed'}", *gate.summary]
        parts.append(_table(COLUMNS, [rule_cells(rule) for rule in gate.rules]))
    parts += ["# Where to look", f"- Dossier: `{(root / paths.DOSSIER).resolve()}`"]
    if receipt and gate and gate.passed:
        uri = receipt.tracking_uri
        parts.append(
            f"- MLflow: [{uri}]({uri})" if uri.startswith("http") else f"- MLflow: `{uri}`, shown by `make ui`"
        )
        parts += [f"- Registered: {model.name} version {model.version}" for model in receipt.models]
        parts += [f"- `register` failed: {receipt.problem}"] if receipt.problem else []
    return "\n\n".join(parts)


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
