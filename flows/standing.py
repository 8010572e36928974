"""Where a project stands: what runs now, what is up to date, and the gate's last verdict; only reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows import verdict
from flows.dag import stages_in_order, why_out_of_date
from flows.dvc_process import InfrastructureError
from kd_steps.params import PARAMS_FILE, load_params
from kd_steps.running import hold


def show(root: Path) -> int:
    """Print where the project stands.

    Returns:
        The exit code: 1 where DVC cannot tell what is up to date, and no stage of ours is the reason.

    Raises:
        ValueError: a file of the project is damaged; the message names it.
    """
    console = Console()
    notes = hold.notes(root)
    for note, silent_s in notes:
        said = f"{note.stage}: {note.how_far() or 'begun'}; by {note.who()}"
        if hold.is_heard(silent_s):
            console.print(f"running: {said}", markup=False)
        else:
            console.print(f"not heard from for {silent_s:.0f} s: {said}; killed, or its clock is another", markup=False)
    if (root / PARAMS_FILE).exists():
        load_params(root / PARAMS_FILE)  # a broken one is told with its line, and before DVC stumbles over it
    code = 0
    try:
        console.print(_stages(root))
    except InfrastructureError as error:
        code = 0 if any(hold.is_heard(silent_s) for _, silent_s in notes) else 1
        print(f"{error}; DVC tells what is up to date when it has ended", file=sys.stderr)
    except OSError as error:  # a checkout that this user may only read
        print(f"DVC cannot tell what is up to date: {error}", file=sys.stderr)
    gate = verdict.read_gate(root)
    console.print("\n".join(gate.summary) if gate else "The gate has not given a verdict yet.", markup=False)
    return code


def next_step(root: Path) -> str:
    """What to do next, in words.

    Raises:
        ValueError: a file of the project is damaged; the message names it.
    """
    if notes := hold.running(root):
        return f"{notes[0].stage} is running; `retort status` tells how far it is"
    try:
        changed = why_out_of_date(root)
    except (InfrastructureError, OSError) as error:
        return f"DVC cannot tell: {error}"
    first = next((stage.name for stage in stages_in_order(root) if stage.name in changed), None)
    return f"`dvc repro` or `retort run`; the first stage that is out of date is {first}" if first else "nothing to do"


def _stages(root: Path) -> Table:
    changed = why_out_of_date(root)
    table = Table(title="Stages", title_justify="left")
    for column in ("stage", "state", "why"):
        table.add_column(column)
    for stage in stages_in_order(root):
        state = "out of date" if stage.name in changed else "up to date"
        table.add_row(stage.name, state, _changes(changed.get(stage.name, [])))
    return table


def _changes(changes: Any) -> str:
    """DVC's nested list of changes, in one line."""
    told = []
    for change in changes if isinstance(changes, list) else [changes]:
        if isinstance(change, dict):
            told += [f"{kind}: {', '.join(what) if isinstance(what, dict) else what}" for kind, what in change.items()]
        else:
            told.append(str(change))
    return "; ".join(told)
