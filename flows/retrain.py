"""The flow ``retrain``: the whole DVC pipeline under Prefect. ``python -m flows.retrain`` runs it here and now."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from kd_steps.running import pipes
from kd_steps.stage_entry import set_environment

if __name__ == "__main__":  # Prefect reads its switches when it is imported
    set_environment(Path.cwd())

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import verdict
from flows.dag import stage_task, stages_in_order

NO_SERVER = "The machine may be busy: run again, or start a server once and name it by PREFECT_API_URL."


@flow(name="retrain", persist_result=False)
def retrain(root: Path | None = None, target: str | None = None, force: bool = False) -> State[Any]:
    """Run the pipeline's stages in order; what is up to date shows as cached.

    Args:
        root: the project; None for the working directory.
        target: run this stage and what it needs; None for all.
        force: run the stages though they are up to date.

    Returns:
        Completed; or Failed with the stage's own message, or with the gate's failing rules.
    """
    project = (root or Path.cwd()).resolve()
    set_environment(project)
    outcomes: dict[str, str] = {}
    try:
        stages = stages_in_order(project, target)
    except ValueError as error:  # raised, Prefect would print our own stack with it
        return Failed(message=str(error))
    for stage in stages:
        state: State[Any] = stage_task(stage)(project, stage, force, return_state=True)
        if not state.is_completed():
            outcomes[stage.name] = "failed" if state.is_failed() else str(state.name).lower()
            publish(project, outcomes)
            return Failed(message=str(state.result(raise_on_failure=False)))
        outcomes[stage.name] = str(state.result())
    publish(project, outcomes)
    gate = verdict.read_gate(project)
    if "gate" in outcomes and gate and not gate.passed:
        return Failed(message="the gate failed:\n" + "\n".join(verdict.failing_lines(gate)))
    told = ", ".join(f"{count} {outcome}" for outcome, count in Counter(outcomes.values()).items())
    return Completed(message=f"{len(outcomes)} stages: {told}")


def publish(project: Path, outcomes: dict[str, str]) -> None:
    """Put stages, gate table and links on Prefect's page of this run."""
    create_markdown_artifact(
        key="pipeline", markdown=verdict.markdown(project, outcomes), description="Stages, gate and where to look"
    )


def run_here(target: str | None = None, force: bool = False) -> int:
    """Run the flow in this process; prints its end and returns an exit code. SIGTERM ends the running stage too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    pipes.go_on_without_reader()
    try:
        state: State[Any] = retrain(target=target, force=force, return_state=True)
    except KeyboardInterrupt:
        print("ended by Ctrl-C; what is finished is kept, `retort run` goes on there", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if "Prefect API" not in str(error):
            raise
        print(f"error: {error} {NO_SERVER}", file=sys.stderr)
        return 1
    print(f"{state.name}: {state.message}", file=sys.stdout if state.is_completed() else sys.stderr)
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    raise SystemExit(run_here())
