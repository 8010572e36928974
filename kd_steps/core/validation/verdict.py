"""The verdict of `validate`: what each suite found, in words that name the files and the mend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

FILES_NAMED = 10

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Check:
    """The outcome of one expectation.

    Attributes:
        expectation: its type.
        column: the column or columns it looks at.
        severity: ``critical`` stops the pipeline, ``warning`` is said.
        passed: whether the table meets it.
        description: what is expected, in plain words.
        mend: what to do where it is not met.
        observed: what was seen instead, for an expectation about a whole column.
        failing_rows: positions of the rows that do not meet it, for an expectation about each row.
    """

    expectation: str
    column: str
    severity: Severity
    passed: bool
    description: str
    mend: str
    observed: str
    failing_rows: tuple[int, ...]


def suite_verdict(checks: Sequence[Check], table: pd.DataFrame) -> dict[str, Any]:
    """What one suite found; it passes if nothing critical failed.

    Args:
        checks: outcome of every expectation of the suite.
        table: the table they looked at; its column ``file`` names the file that a person would open.
    """
    failures = [_failure(check, table) for check in checks if not check.passed]
    return {
        "passed": all(failure["severity"] != "critical" for failure in failures),
        "evaluated": len(checks),
        "unsuccessful": len(failures),
        "failures": failures,
    }


def verdict(suites: Mapping[str, dict[str, Any]], counts: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """The content of ``metrics/validation.json``.

    Args:
        suites: from :func:`suite_verdict`, by name.
        counts: what was looked at.
        notes: warnings that came with the data.
    """
    said = [
        f"{name}: {f['message']}" for name, s in suites.items() for f in s["failures"] if f["severity"] == "warning"
    ]
    return {
        "passed": all(suite["passed"] for suite in suites.values()),
        "suites": dict(suites),
        "counts": dict(counts),
        "warnings": [*notes, *said],
    }


def counts(tables: Mapping[str, pd.DataFrame], part_classes: Sequence[str]) -> dict[str, Any]:
    """What was looked at: pictures, pictures without objects, objects by class, probes, new parts.

    Args:
        tables: the tables of the suites ``images``, ``boxes``, ``parity`` and ``new_parts``.
        part_classes: new classes that the new parts name.
    """
    images, boxes, new_parts = tables["images"], tables["boxes"], tables["new_parts"]
    shots = new_parts.groupby("class_name")["path"].nunique()
    return {
        "images": _by(images, "split"),
        "images_without_objects": _by(images[images["n_boxes"] == 0], "split"),
        "boxes": _by(boxes, "split"),
        "boxes_by_class": _by(boxes, "class_name"),
        "parity_probes": int(tables["parity"]["file"].nunique()),
        "new_part_pictures": int(new_parts["sha256"].nunique()),
        "new_part_shots": {name: int(shots.get(name, 0)) for name in part_classes},
    }


def stop_message(found: Mapping[str, Any], where: str) -> str:
    """Why the pipeline stops: every critical failure with its files and its mend."""
    critical = [
        f"  {name}: {failure['message']}\n    mend: {failure['mend']}"
        for name, suite in found["suites"].items()
        for failure in suite["failures"]
        if failure["severity"] == "critical"
    ]
    noun = "check" if len(critical) == 1 else "checks"
    return "\n".join([f"{len(critical)} critical {noun} failed; nothing later was run (all of it: {where})", *critical])


def _by(table: pd.DataFrame, column: str) -> dict[str, int]:
    return {str(name): int(n) for name, n in table[column].value_counts().sort_index().items()}


def _failure(check: Check, table: pd.DataFrame) -> dict[str, Any]:
    rows = table.iloc[list(check.failing_rows)]
    files = list(dict.fromkeys(rows["file"].astype(str)))
    named = [_named(row, check.column) for _, row in rows.drop_duplicates("file").head(FILES_NAMED).iterrows()]
    if len(files) > FILES_NAMED:
        named.append(f"… and {len(files) - FILES_NAMED} more files")
    seen = "; ".join(named) or check.observed
    return {
        "expectation": check.expectation,
        "column": check.column,
        "severity": check.severity,
        "files": files[:FILES_NAMED],
        "n_files": len(files),
        "message": f"{check.description} Not so: {seen}",
        "mend": check.mend,
    }


def _named(row: pd.Series, column: str) -> str:
    """One row in words: its file and the value that is wrong."""
    values = [row[name] for name in column.split(", ") if name in row.index]
    if len(values) == 1 and isinstance(values[0], str):
        return f"{row['file']}: {values[0]}"
    told = ", ".join(f"{name} {_short(row[name])}" for name in column.split(", ") if name in row.index)
    return f"{row['file']} ({told})"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
