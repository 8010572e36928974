"""``python -m kd_steps.jobs.class_tool``: list, add, withdraw and rename the classes of a product.

Nothing in the pipeline writes a ledger: numbers that machines on the line know come and go only where a person says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from kd_steps.adapters.data.ledger import load_ledger, write_ledger
from kd_steps.adapters.files import sole_writer
from kd_steps.artifacts import paths
from kd_steps.core.data.ledger import Ledger, LedgerClass, names_in_service
from kd_steps.params import load_params
from kd_steps.stage_entry import set_environment

app = typer.Typer(
    help="The classes of a product and their numbers, which stay for ever.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Product = Annotated[str | None, typer.Option(metavar="NAME", help="Whose classes; params.yaml's `product` otherwise.")]
Drop = Annotated[str, typer.Option(metavar="TEXT", help="What brought it: a delivery of data, an order.")]
BY_HAND = "by hand"


def main() -> None:
    """Run one command; a fault that a user can mend is printed plainly, exit code 1."""
    set_environment(Path.cwd())
    try:
        app(prog_name="retort classes")
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from error


@app.command("list")
def list_classes(product: Product = None) -> None:
    """Show every class that ever was, by number."""
    ledger = load_ledger(product or load_params().product)
    for known in ledger.classes:
        former = f"; before: {', '.join(known.former_names)}" if known.former_names else ""
        gone = f"; withdrawn {known.withdrawn}" if known.withdrawn else ""
        typer.echo(f"{known.number:>4}  {known.name}  (added {known.added}, {known.drop}{former}{gone})")


@app.command()
def add(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="In the order of their numbers.")
    ] = None,
    from_source: Annotated[
        bool, typer.Option("--from-source", help="Those of params.yaml's source that are not listed, in its order.")
    ] = False,
    drop: Drop = "",
    product: Product = None,
) -> None:
    """Give classes the next free numbers. A withdrawn name that comes back is a new class with a new number."""
    if bool(names) == from_source:
        raise typer.BadParameter("give the names of the new classes, or --from-source")
    came_by = drop or (f"source {load_params().prepare.source.kind}" if from_source else BY_HAND)

    def added(old: Ledger) -> Ledger:
        new = names_in_service(_source_classes(), old).unlisted if from_source else names or ()
        return old.add(new, _today(), came_by)

    changed = _change(product, added, may_be_first=True)
    typer.echo(f"{changed.path}: {_listed(changed.now) if changed.now else 'every class was listed already'}")


@app.command()
def withdraw(
    name: Annotated[str, typer.Argument(metavar="NAME")], drop: Drop = BY_HAND, product: Product = None
) -> None:
    """Take a class out of service: its labels no longer count, its number stays its own for ever."""
    changed = _change(product, lambda old: old.withdraw(name, _today(), drop))
    number = changed.now[0].number
    typer.echo(f"{changed.path}: '{name}' is withdrawn; number {number} is not given out again")


@app.command()
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD")],
    new: Annotated[str, typer.Argument(metavar="NEW")],
    drop: Drop = BY_HAND,
    product: Product = None,
) -> None:
    """Mend the name of a class: its number stays, and data under the old name still mean it."""
    changed = _change(product, lambda ledger: ledger.rename(old, new, _today(), drop))
    typer.echo(f"{changed.path}: number {changed.now[0].number} is '{new}' now, no more '{old}'")


@dataclass(frozen=True)
class Changed:
    """A ledger that was written: its file, and the classes that are not what they were."""

    path: Path
    now: tuple[LedgerClass, ...]


def _change(product: str | None, change: Callable[[Ledger], Ledger], *, may_be_first: bool = False) -> Changed:
    """Change the ledger of a product on disk."""
    product = product or load_params().product
    path = paths.ledger(product)
    with sole_writer(path.parent):
        old = Ledger() if may_be_first and not path.exists() else load_ledger(product)
        new = change(old)
        if new != old:
            write_ledger(path, new)
    return Changed(path, tuple(c for c in new.classes if c not in old.classes))


def _source_classes() -> tuple[str, ...]:
    from kd_steps.jobs.source import load_source

    return load_source(load_params()).classes


def _listed(classes: tuple[LedgerClass, ...]) -> str:
    return ", ".join(f"{c.number} {c.name}" for c in classes) + "; commit the file, the numbers are for ever"


def _today() -> date:
    return datetime.now(UTC).date()


if __name__ == "__main__":
    main()
