"""The command ``retort``: run the pipeline, see where it stands, open its pages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from flows import verdict
from kd_steps.artifacts import paths
from kd_steps.stage_entry import set_environment

TABLE_WIDTH = 120
T = TypeVar("T")

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
ITS_OWN_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}


def main() -> None:
    """Entry of the command; the environment is set before Prefect, DVC and MLflow read it."""
    set_environment(Path.cwd())
    app()


@app.command()
def run(
    target: Annotated[str | None, typer.Option(help="Run this stage and what it needs.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run stages though they are up to date.")] = False,
) -> None:
    """Run the pipeline under Prefect; without PREFECT_API_URL, no server is needed."""
    _require_project()
    require_ledger()
    from flows.retrain import run_here

    raise typer.Exit(run_here(target, force))


@app.command()
def status() -> None:
    """Show what runs now and how far it is, what is up to date, the gate's verdict, and faults of the registry."""
    _require_project()
    from flows import standing
    from flows.registry import asked

    with asked(Path.cwd()) as registry:
        code = _document(standing.show, Path.cwd())
        if told := registry():
            typer.echo(told)
    raise typer.Exit(code)


def _document(read: Callable[[Path], T], root: Path) -> T:
    """What a stage left; one that cannot be used ends the command with a plain message."""
    try:
        return read(root)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def doctor() -> None:
    """Say what is installed, what can be built here, which servers answer, how full the disks are, and what is next."""
    _require_project()
    try:
        _start("doctor_tool")
    finally:
        from flows import standing

        typer.echo(f"next: {_document(standing.next_step, Path.cwd())}")


@app.command()
def summary() -> None:
    """Print the gate's table, the registered engines, and where to look next."""
    _require_project()
    from rich.console import Console
    from rich.table import Table

    root, console = Path.cwd(), Console()
    console.width = max(console.width, TABLE_WIDTH)  # a pipe says 80 columns, which would cut the numbers
    gate, receipt = _document(verdict.read_gate, root), _document(verdict.read_receipt, root)
    if gate is None:
        console.print("The gate has not given a verdict yet; `dvc repro` or `retort run` makes one.")
        raise typer.Exit(1)
    table = Table(title=f"Gate: {'passed' if gate.passed else 'NOT PASSED'}", title_justify="left")
    for column in verdict.COLUMNS:
        table.add_column(column, no_wrap=column in ("target", "name"))
    for rule in gate.rules:
        table.add_row(*verdict.rule_cells(rule))
    console.print(table)
    console.print("\n".join(gate.summary), markup=False)
    if gate.passed and receipt and receipt.models:
        when = "" if verdict.is_of(receipt, gate) else " of an earlier run; `dvc repro register` registers these"
        console.print(f"\nRegistered engines{when}", style="bold")
        for model in receipt.models:
            console.print(f"  {model.name} version {model.version} (release {model.release_digest[:12]})", markup=False)
    else:
        console.print("\nNo engine is registered.", style="bold")
    if receipt and receipt.problem:
        console.print(f"  The last `register` failed: {receipt.problem}", markup=False)
    console.print("\nWhere to look next", style="bold")
    console.print(f"  dossier:           {(root / paths.DOSSIER).resolve().as_uri()}", markup=False, soft_wrap=True)
    console.print("  MLflow and Prefect: make ui", markup=False)


@app.command()
def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's page; another one is taken if it is busy.")] = 5000,
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's page; the same.")] = 4200,
) -> None:
    """Start the pages of MLflow and Prefect on loopback; Ctrl-C ends both."""
    _require_project()
    from flows.services import free_port, mlflow_service, prefect_service, serve

    root, store = Path.cwd(), os.environ.get("MLFLOW_TRACKING_URI", "")
    prefect = prefect_service(free_port(prefect_port))
    services = [prefect] if store.startswith("http") else [mlflow_service(root, free_port(mlflow_port)), prefect]
    if not store:
        _start("registry_tool", "move")  # or the page of a moved project would show no files
    also = [f"Runs appear there with: PREFECT_API_URL={prefect.page}/api retort run"]
    if store.startswith("http"):
        also.insert(0, "MLflow: MLFLOW_TRACKING_URI names a server that is not ours")
    raise typer.Exit(serve(root, services, also))


@app.command()
def stack(
    port: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER: a part's port; may be given again.")] = None,
) -> None:
    """Start PostgreSQL, MLflow with sign-in, Prefect, a worker, S3 and SSH on loopback; Ctrl-C ends all."""
    _require_project()
    from flows.stack import start

    asked = dict(one.partition("=")[::2] for one in port or [])
    if not all(number.isdecimal() for number in asked.values()):
        typer.echo("error: --port wants NAME=NUMBER, such as --port mlflow=5001", err=True)
        raise typer.Exit(1)
    raise typer.Exit(start.run(Path.cwd(), {name: int(number) for name, number in asked.items()}))


@app.command(context_settings=ITS_OWN_ARGUMENTS, add_help_option=False)
def classes(context: typer.Context) -> None:
    """List, add, withdraw and rename the classes of the product; their numbers stay for ever."""
    _hand_over("class_tool", context)


@app.command(context_settings=ITS_OWN_ARGUMENTS, add_help_option=False)
def cache(context: typer.Context) -> None:
    """Look at the teacher cache: is it exact, and what is in it."""
    _hand_over("cache_tool", context)


def _hand_over(tool: str, context: typer.Context) -> None:
    """Let a tool read its own arguments; it tells its options anywhere, and works in a project."""
    if "--help" not in context.args:
        _require_project()
    _start(tool, *context.args)


def _start(tool: str, *arguments: str) -> None:
    """Run a tool of Retort in a process of its own, which may load what this one may not; end with it if it fails."""
    done = subprocess.run([sys.executable, "-m", f"kd_steps.jobs.{tool}", *arguments], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


def _require_project() -> None:
    if not Path("dvc.yaml").is_file():
        typer.echo("error: no dvc.yaml here; change to the project's root", err=True)
        raise typer.Exit(1)


def require_ledger() -> None:
    """List the classes of the source where the product has no ledger of classes yet."""
    from kd_steps.params import ParamsError, load_params

    try:
        product = load_params().product
    except ParamsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if not paths.ledger(product).exists():
        _start("class_tool", "add", "--from-source")


if __name__ == "__main__":
    main()
