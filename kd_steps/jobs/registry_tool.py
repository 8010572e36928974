"""What `retort status` and `retort ui` ask of MLflow, in a process of its own: flows import no MLflow.

``differences`` prints a line for each registered version whose tag or stage says another thing than its alias, and
one where the store cannot be asked; ``move`` lets the store of a moved project name the folder it lies in now.
"""

from __future__ import annotations

from pathlib import Path

import typer

from kd_steps.params import load_params
from kd_steps.stage_entry import set_environment

MEND = "`dvc repro -f -s register` lets them follow the aliases"
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def differences() -> None:
    """Tell where tags and stages contradict the aliases."""
    from kd_steps.adapters.mlflow.address import tracking_uri
    from kd_steps.adapters.mlflow.aliases import differences as of_model
    from kd_steps.adapters.mlflow.faults import TrackingError, clear_errors
    from kd_steps.adapters.mlflow.making import settings
    from kd_steps.adapters.mlflow.tracking import open_client

    root = Path.cwd()
    params = load_params()
    try:
        with settings(), clear_errors(tracking_uri(root)):
            client = open_client(tracking_uri(root))
            names = [f"{params.product}-{target}" for target in params.export.targets]
            lines = [line for name in names for line in of_model(client, name)]
    except TrackingError as error:
        typer.echo(f"Registry: {str(error).splitlines()[0]}")
        return
    for line in lines:
        typer.echo(f"Registry: {line}")
    if lines:
        typer.echo(f"Registry: {MEND}")


@app.command()
def move() -> None:
    """Let the store of a moved or copied project name this folder."""
    from kd_steps.adapters.mlflow.faults import TrackingError
    from kd_steps.adapters.mlflow.moved import move_along

    try:
        move_along(Path.cwd())
    except TrackingError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    set_environment(Path.cwd())
    app()
