"""The classes of the last registered release: what their ledger said then, it must say for ever."""

from __future__ import annotations

from kd_steps.adapters.data.ledger import load_ledger, read_ledger, write_ledger
from kd_steps.artifacts import paths
from kd_steps.core.data.ledger import Ledger, LedgerError, changed_entry


def keep_released(product: str) -> None:
    """Note the ledger of a product as that of a registered release."""
    write_ledger(paths.released_ledger(product), load_ledger(product))


def require_unchanged(product: str, ledger: Ledger) -> None:
    """Refuse a ledger in which a line of the last registered release is gone or another; new lines are fine.

    Raises:
        LedgerError: names the line as it was and as it is.
    """
    path = paths.released_ledger(product)
    if path.is_file() and (told := changed_entry(read_ledger(path), ledger)):
        raise LedgerError(
            f"{paths.ledger(product)}: {told}. The last registered release has it so, and machines on the line know "
            f"its numbers: restore the line from git ({path} is the ledger of that release)"
        )
