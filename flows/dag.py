"""The DVC pipeline as Prefect tasks: DVC says what is up to date, Prefect when it runs and how often it is tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from prefect.tasks import Task

from flows.dvc_process import BusyError, InfrastructureError, StageFailedError, reproduce

if TYPE_CHECKING:
    from dvc.repo import Repo

RETRIES = 2
RETRY_DELAY_S = 10.0
WAIT_S = 3600.0
LOOK_AGAIN_S = 20.0
UNCHANGED = "didn't change, skipping"
RESTORED = "skipping run, checking out outputs"


MEND = (
    "A damaged dvc.yaml or dvc.lock comes back with `git checkout dvc.yaml dvc.lock`; a folder without .dvc is made a "
    "DVC project by `dvc init`"
)


class ProjectError(ValueError):
    """DVC cannot read the project; the message is DVC's, with a mend."""


@dataclass(frozen=True)
class Stage:
    """One stage of ``dvc.yaml``.

    Attributes:
        name: its name.
        retries: tries after a fault of the machine or the network; ``meta: {retries: …}`` in dvc.yaml.
        retry_delay_s: seconds between them; ``meta: {retry_delay_s: …}``.
        timeout_s: seconds that it may take, None without a limit; ``meta: {timeout_s: …}``.
        wait_s: seconds that it waits for another process or a full disk; ``meta: {wait_s: …}``.
    """

    name: str
    retries: int = RETRIES
    retry_delay_s: float = RETRY_DELAY_S
    timeout_s: float | None = None
    wait_s: float = WAIT_S


def stages_in_order(root: Path, target: str | None = None) -> list[Stage]:
    """The stages of ``dvc.yaml``, each after those it depends on; with ``target``, it and what it needs.

    Raises:
        ValueError: there is no stage of that name; names those there are.
    """
    with _repository(root) as repo:
        graph = repo.index.graph
        nodes = {stage.name: stage for stage in repo.index.stages if getattr(stage, "name", None)}
        if target is not None and target not in nodes:
            raise ValueError(f"{root}/dvc.yaml: no stage '{target}'; there are: {', '.join(nodes)}")
        ordered: dict[Any, None] = {}

        def visit(stage: Any) -> None:
            if stage not in ordered:
                for needed in graph.successors(stage):
                    visit(needed)
                ordered[stage] = None

        for stage in [nodes[target]] if target else nodes.values():
            visit(stage)
        return [_described(stage) for stage in ordered if getattr(stage, "name", None)]


def is_up_to_date(root: Path, name: str) -> bool:
    """Whether DVC would skip this one stage; what it depends on is not looked at, so ask in order.

    A stage whose files another run holds is not: DVC, which waits for them, is to say.
    """
    from dvc.lock import LockError

    with _repository(root) as repo, suppress(LockError):
        return not repo.status(targets=[f"{root.resolve() / 'dvc.yaml'}:{name}"])
    return False


def why_out_of_date(root: Path) -> dict[str, Any]:
    """Stage name → what changed, for every stage that DVC would run.

    Raises:
        ProjectError: DVC cannot read the project.
        InfrastructureError: a stage is running and holds its files.
    """
    from dvc.lock import LockError

    try:
        with _repository(root) as repo:
            return {str(name).rpartition(":")[2]: changes for name, changes in repo.status().items()}
    except LockError as error:
        raise InfrastructureError(f"a stage is running: {error}") from error


def stage_task(stage: Stage) -> Task[[Path, Stage, bool], State[str]]:
    """The task of a stage, with its name and its retries."""
    return run_stage.with_options(
        name=stage.name,
        task_run_name=stage.name,
        retries=stage.retries,
        retry_delay_seconds=stage.retry_delay_s,
    )


def worth_another_try(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Only what the machine or the network did; a stage's own failure would come again, and a wait was long enough."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, InfrastructureError) and not isinstance(error, BusyError)


@task(cache_policy=NO_CACHE, retry_condition_fn=worth_another_try, persist_result=False)
def run_stage(root: Path, stage: Stage, force: bool) -> State[str]:
    """Run one DVC stage, or show it as cached where DVC finds it up to date."""
    logger = get_run_logger()
    if not force and is_up_to_date(root, stage.name):
        return Completed(name="Cached", message=f"{stage.name} is up to date", data="cached")

    def once() -> list[str]:
        return reproduce(root, stage.name, force, stage.timeout_s, logger.info)

    try:
        tail = when_free(once, stage.wait_s, logger.warning)
    except (StageFailedError, InfrastructureError) as error:  # raised, Prefect would print our own stack with it
        return Failed(message=str(error), data=error)
    if any(UNCHANGED in line for line in tail):  # another run had made it meanwhile
        return Completed(name="Cached", message=f"{stage.name} is up to date", data="cached")
    if any(RESTORED in line for line in tail):
        return Completed(name="Cached", message=f"{stage.name} was restored from DVC's run cache", data="restored")
    return Completed(message=f"{stage.name} ran", data="ran")


def when_free(
    once: Callable[[], list[str]], wait_s: float, say: Callable[[str], None], look_again_s: float = LOOK_AGAIN_S
) -> list[str]:
    """Do it; where it meets what it has to wait for, again and again, for ``wait_s`` seconds.

    Raises:
        BusyError: that was not long enough.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return once()
        except BusyError as error:
            if time.monotonic() + look_again_s > deadline:
                raise
            say(f"waiting, for {deadline - time.monotonic():.0f} s at most: {error}")
            time.sleep(look_again_s)


def _described(stage: Any) -> Stage:
    meta = stage.meta if isinstance(getattr(stage, "meta", None), dict) else {}
    known = {key: meta[key] for key in ("retries", "retry_delay_s", "timeout_s", "wait_s") if key in meta}
    return Stage(stage.name, **known)


@contextmanager
def _repository(root: Path) -> Iterator[Repo]:
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(root.resolve())) as repo:
            yield repo
    except LockError:
        raise
    except DvcException as error:
        raise ProjectError(f"DVC cannot read this project: {' '.join(str(error).split())}. {MEND}") from error
