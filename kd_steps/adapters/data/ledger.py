"""The ledger of a product's classes as a file: one line an entry, under version control."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path
from typing import get_args

from kd_steps.adapters.files import atomic_path, read_text
from kd_steps.artifacts import paths
from kd_steps.core.data.ledger import Entry, Event, Ledger, LedgerError

COLUMNS = ("number", "event", "name", "on", "drop")
MEND = "lines are only ever added, so restore it from git; after a merge, take the later class out and add it again"


def load_ledger(product: str) -> Ledger:
    """The ledger of a product.

    Raises:
        FileNotFoundError: it has none; names the command that writes one.
        LedgerError: a line cannot be read, or contradicts those before it; names file and line.
    """
    path = paths.ledger(product)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: '{product}' has no ledger of classes yet; `retort classes add --from-source` lists those of the "
            "source, in its order (git keeps the file: their numbers are for ever)"
        )
    return read_ledger(path)


def read_ledger(path: Path) -> Ledger:
    """Read a file as :func:`write_ledger` wrote it.

    Raises:
        LedgerError: a line cannot be read, or contradicts those before it; names file and line.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_text(path)), strict=True))
    except csv.Error as error:
        raise LedgerError(f"{path}: not a table ({error}); {MEND}") from error
    if not rows or tuple(rows[0]) != COLUMNS:
        raise LedgerError(f"{path}, line 1: expected {','.join(COLUMNS)}; {MEND}")
    ledger = Ledger()
    for line, row in enumerate(rows[1:], start=2):
        try:
            ledger = Ledger((*ledger.entries, _entry(row)))
        except ValueError as error:
            raise LedgerError(f"{path}, line {line}: {error}; {MEND}") from error
    return ledger


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Write a ledger, one line an entry; the old file stays until the new one is whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((e.number, e.event, e.name, e.on.isoformat(), e.drop) for e in ledger.entries)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _entry(row: list[str]) -> Entry:
    if len(row) != len(COLUMNS):
        raise ValueError(f"expected {len(COLUMNS)} fields ({', '.join(COLUMNS)}), found {len(row)}")
    number, event, name, on, drop = row
    known: dict[str, Event] = {known: known for known in get_args(Event)}
    if event not in known:
        raise ValueError(f"event '{event}' is none of {', '.join(known)}")
    return Entry(int(number), known[event], name, date.fromisoformat(on), drop)
