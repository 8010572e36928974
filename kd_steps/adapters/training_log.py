"""The training log that Ultralytics writes: ``results.csv``, one row an epoch."""

from __future__ import annotations

import csv
from pathlib import Path

from kd_steps.adapters.files import atomic_path
from kd_steps.core.report.leaves import numeric_leaves, safe_name

NAME_LIMIT = 240
LOSSES = "curve/train/"


class TrainingLogError(ValueError):
    """A training log cannot be read; the message names file and line."""


def read_curve(path: Path) -> tuple[tuple[str, float, int], ...]:
    """The numbers of a training log: (name below ``curve/``, value, step); the column ``epoch`` gives the step.

    Raises:
        TrainingLogError: a row is shorter than the header, as after a full disk; names file and line.
    """
    points: list[tuple[str, float, int]] = []
    with path.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream, skipinitialspace=True), start=1):
            if None in row.values() or None in row:
                raise TrainingLogError(f"{path}, line {number + 1}: not as many values as the header has; train again")
            cells = {key.strip(): value for key, value in row.items()}
            step = int(float(cells.pop("epoch", number)))
            for name, text in cells.items():
                try:
                    found = numeric_leaves(float(text))
                except ValueError:
                    continue  # a column of text, such as a phase's name
                points += [(f"curve/{safe_name(name, NAME_LIMIT)}", value, step) for value in found.values()]
    return tuple(points)


def write_losses(log: Path, target: Path) -> None:
    """Write the training losses of a log in long form (epoch, loss, value), which a plot shows a line a loss of."""
    lines = [
        (step, name.removeprefix(LOSSES), value) for name, value, step in read_curve(log) if name.startswith(LOSSES)
    ]
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("epoch", "loss", "value"))
        writer.writerows(lines)
