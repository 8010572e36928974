"""``python -m kd_steps.jobs.doctor_tool``: what is installed, what can be built here, and which servers answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import typer

from kd_steps.adapters.checkup import Finding, disks, dvc_remotes, packages, prefect_server, processor
from kd_steps.params import ParamsError, load_params
from kd_steps.stage_entry import set_environment

SIGNS = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}


def main() -> None:
    """Print a line for each finding, with its mend; exit code 1 where something does not work."""
    root = Path.cwd()
    set_environment(root)
    faults = 0
    for found in _findings(root):
        faults += found.state == "fault"
        typer.echo(f"{SIGNS[found.state]} {found.subject}: {found.told}")
        if found.mend:
            typer.echo(f"      {found.mend}")
    raise SystemExit(1 if faults else 0)


def _findings(root: Path) -> Iterator[Finding]:
    yield packages(root)
    yield processor()
    yield from _params_and_training(root)
    yield from _engines()
    yield from disks(root)
    yield _registry(root)
    yield prefect_server()
    yield from dvc_remotes(root)


def _params_and_training(root: Path) -> Iterator[Finding]:
    try:
        params = load_params(root / "params.yaml")
    except ParamsError as error:
        yield Finding("params.yaml", "fault", str(error))
        return
    yield Finding("params.yaml", "ok", f"product {params.product}, source {params.prepare.source.kind}")
    from kd_steps.adapters.yolo.hardware import hardware

    try:
        where = hardware(params)
    except ValueError as error:
        yield Finding("training", "fault", str(error))
    else:
        told = f"on {where.device} in {where.precision.name}, {os.environ['OMP_NUM_THREADS']} threads"
        yield Finding("training", "ok", told)


def _engines() -> Iterator[Finding]:
    from kd_steps.adapters.engines.targets import TARGETS
    from kd_steps.edge.engines import quiet_openvino

    for name, target in TARGETS.items():
        try:
            quiet_openvino() if target.runtime == "openvino" else __import__(target.runtime)
        except ImportError as error:
            yield Finding(f"engine {name}", "fault", f"{target.runtime}: {error}", "run `make setup`")
        else:
            yield Finding(f"engine {name}", "ok", "can be built and run here")


def _registry(root: Path) -> Finding:
    from kd_steps.adapters.mlflow.address import tracking_uri
    from kd_steps.adapters.mlflow.address import without_credentials as shown
    from kd_steps.adapters.mlflow.faults import TrackingError, clear_errors
    from kd_steps.adapters.mlflow.making import settings
    from kd_steps.adapters.mlflow.tracking import open_client

    uri = tracking_uri(root)
    who = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return Finding("MLflow", "ok", f"{uri}: `register` makes this file")
    try:
        with settings(), clear_errors(uri):
            names = [experiment.name for experiment in open_client(uri).search_experiments(max_results=5)]
    except TrackingError as error:
        return Finding("MLflow", "fault", str(error).split("\n", maxsplit=1)[0])
    to = f" to {who}" if who else ""
    return Finding("MLflow", "ok", f"{shown(uri)} answers{to}; experiments: {', '.join(names)}")


if __name__ == "__main__":
    main()
