"""Stage `gate`: measurements + limits → a verdict per rule. It always writes its verdict; `register` acts on it."""

from __future__ import annotations

from kd_steps.adapters.files import write_document
from kd_steps.artifacts import EngineReport, GateVerdict, paths
from kd_steps.core.evaluation.gates import gate_verdict
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage

TABLE_WIDTH = 110
DIGITS = 12  # of a digest, enough for people
STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}


def main() -> None:
    """Judge every evaluated engine, write ``metrics/gate.json`` and print the table."""
    knobs = load_params().gate
    report = EngineReport.read(paths.ENGINE_REPORT)
    values = gate_verdict(report.model_dump()["engines"], knobs, knobs.required_targets, report.left_out)
    verdict = GateVerdict.model_validate(values)
    write_document(paths.GATE, verdict)
    print_verdict(verdict)


def print_verdict(verdict: GateVerdict) -> None:
    """Print the rules as a table and, below it, in plain words what is not passed."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Gate", title_justify="left")
    for heading in ("engine", "rule", "verdict"):
        table.add_column(heading, no_wrap=True)
    for heading in ("value", "low", "high", "limit", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for rule in verdict.rules:
        style = STYLES[rule.verdict]
        numbers = [_told(getattr(rule, name)) for name in ("value", "low", "high", "limit", "n")]
        table.add_row(rule.target, rule.name, f"[{style}]{rule.verdict}[/{style}]", *numbers)
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # a pipe says 80 columns, which would cut names and numbers
    console.print(table)
    for target, digest in verdict.releases.items():
        console.print(f"{target}: {f'release {digest[:DIGITS]}' if digest else 'no release'}", highlight=False)
    for line in verdict.summary:
        console.print(escape(line), soft_wrap=True, highlight=False)


def _told(number: float | int | None) -> str:
    """A number for the table; unknown is a dash."""
    return "–" if number is None else f"{number:.4g}"


if __name__ == "__main__":
    run_stage(main)
