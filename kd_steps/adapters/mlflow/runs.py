"""MLflow: the runs of a pipeline result, a parent and a child for each stage.

Whoever logs a result writes a tree of runs of its own and ends its parent last: a result's tree is complete when its
parent has ended. Of several complete ones, which two processes or a late answer leave, all agree on the earliest.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_steps.adapters.mlflow.making import TRIES, made_once, upload_patience
from kd_steps.adapters.mlflow.run_files import put_back_files
from kd_steps.adapters.mlflow.tracking import TAG_LIMIT, Store
from kd_steps.core.report.leaves import numeric_leaves, text_leaves

if TYPE_CHECKING:
    from mlflow.entities import Run

RESULT_TAG = "result_digest"
STAGE_TAG = "pipeline_stage"
COMPLETE_TAG = "complete"
WRITER_TAG = "writer"  # a random name of the process, by which an unanswered request finds what it made
PARENT_TAG = "mlflow.parentRunId"

# MLflow's own bounds of one request.
_NAME_LIMIT, _PARAM_LIMIT = 250, 6000
_PARAMS_A_REQUEST, _METRICS_A_REQUEST = 100, 1000


@dataclass(frozen=True)
class StageRecord:
    """What one stage of the pipeline leaves for its run.

    Attributes:
        stage: the stage's name.
        params: its section of ``params.yaml``, nested.
        metrics: nested values; their finite numbers become metrics.
        curves: points of training curves, each (name, value, step).
        files: files that are kept with the run.
        failed: whether the run is shown as failed.
    """

    stage: str
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    curves: tuple[tuple[str, float, int], ...] = ()
    files: tuple[Path, ...] = ()
    failed: bool = False


@dataclass(frozen=True)
class Logged:
    """The runs of a result.

    Attributes:
        runs: stage name → run id; the parent under ``"parent"``.
        writer: the name of this process in the tags of what it made.
        put_back: ``stage/file`` of every file that MLflow had lost, or had otherwise.
    """

    runs: dict[str, str]
    writer: str
    put_back: tuple[str, ...]


def log_result(store: Store, digest: str, tags: Mapping[str, str], records: Sequence[StageRecord]) -> Logged:
    """Log one pipeline result: a parent run and a child run for each stage.

    Safe to repeat, after a kill or at the same time: what ``digest`` already logged is kept and made whole.

    Args:
        store: the open store.
        digest: names the result; the same digest is the same result.
        tags: lineage of the result, set on the parent.
        records: one for each stage.
    """
    from mlflow.exceptions import MlflowException

    writer = uuid.uuid4().hex
    parent = complete_parent(store, digest)
    for tries_left in reversed(range(TRIES)):
        made = None
        try:
            if parent is None:
                made = _create_run(store, f"result-{digest[:8]}", {**tags, RESULT_TAG: digest, WRITER_TAG: writer})
                _log_tree(store, made, digest, writer, records)
                parent = complete_parent(store, digest)
            if parent is not None:
                return _made_whole(store, parent, digest, writer, tags, records)
        except MlflowException:
            # Whoever has a complete tree removes one that it found half-done; then theirs is ours, too.
            parent = complete_parent(store, digest)
            if not tries_left or (made is None or is_active(store, made)):
                raise
    raise AssertionError("the last try returns or raises")


def complete_parent(store: Store, digest: str) -> str | None:
    """The parent run of a result that is logged to its end, or None."""
    complete = [run for run in parents_of(store, digest) if has_ended(run)]
    return str(complete[0].info.run_id) if complete else None


def parents_of(store: Store, digest: str) -> list[Run]:
    """The parent runs of a result, the one that counts first."""
    found = search_runs(store, f"tags.{RESULT_TAG} = '{digest}'")
    return sorted((run for run in found if PARENT_TAG not in run.data.tags), key=_order)


def children_of(store: Store, parent_id: str) -> list[Run]:
    """The stages' runs below a parent, of each stage the one that counts first."""
    return sorted(search_runs(store, f"tags.{PARENT_TAG} = '{parent_id}'"), key=_order)


def search_runs(store: Store, wanted: str) -> list[Run]:
    """Every active run of the experiment that a filter lets through."""
    found: list[Run] = []
    token = None
    while True:
        page = store.client.search_runs([store.experiment_id], wanted, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def has_ended(run: Run) -> bool:
    """Whether a run was brought to its end by who began it."""
    return str(run.info.status) in ("FINISHED", "FAILED")


def is_complete(run: Run) -> bool:
    """Whether a stage's run holds all that it is to hold."""
    return run.data.tags.get(COMPLETE_TAG) == "true"


def is_active(store: Store, run_id: str) -> bool:
    """Whether a run is there and not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client.get_run(run_id).info.lifecycle_stage) == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _order(run: Run) -> tuple[int, str]:
    return int(run.info.start_time), str(run.info.run_id)


def _log_tree(store: Store, parent: str, digest: str, writer: str, records: Sequence[StageRecord]) -> None:
    for record in records:
        _log_stage(store, record, parent, digest, writer)
    store.client.set_terminated(parent, _status(any(record.failed for record in records)))


def _made_whole(
    store: Store, parent: str, digest: str, writer: str, tags: Mapping[str, str], records: Sequence[StageRecord]
) -> Logged:
    """The runs below a complete parent; a stage without a complete one gets it, and lost files are put back."""
    complete = {run.data.tags.get(STAGE_TAG): run for run in reversed(children_of(store, parent)) if is_complete(run)}
    runs, put_back = {"parent": parent}, list[str]()
    for record in records:
        run = complete.get(record.stage)
        if run is None:
            runs[record.stage] = _log_stage(store, record, parent, digest, writer)
            continue
        runs[record.stage] = str(run.info.run_id)
        if not has_ended(run):  # killed between its last two steps
            store.client.set_terminated(run.info.run_id, _status(record.failed))
        if run.data.tags.get(WRITER_TAG) != writer:
            put_back += [f"{record.stage}/{name}" for name in put_back_files(store, run.info.run_id, record.files)]
    _retag(store, parent, tags)
    return Logged(runs, writer, tuple(put_back))


def _retag(store: Store, run_id: str, tags: Mapping[str, str]) -> None:
    """Let a run tell today's lineage."""
    told = store.client.get_run(run_id).data.tags
    for name, value in tags.items():
        if told.get(name) != value[:TAG_LIMIT]:
            store.client.set_tag(run_id, name, value[:TAG_LIMIT])


def _log_stage(store: Store, record: StageRecord, parent: str, digest: str, writer: str) -> str:
    from mlflow.entities import Metric, Param

    tags = {STAGE_TAG: record.stage, PARENT_TAG: parent, RESULT_TAG: digest, WRITER_TAG: writer}
    run_id = _create_run(store, record.stage, tags)
    now_ms = int(time.time() * 1000)
    params = [Param(k, v) for k, v in text_leaves(record.params, _NAME_LIMIT, _PARAM_LIMIT).items()]
    metrics = [Metric(k, v, now_ms, 0) for k, v in numeric_leaves(record.metrics, _NAME_LIMIT).items()]
    metrics += [Metric(name, value, now_ms, step) for name, value, step in record.curves]
    for start in range(0, len(params), _PARAMS_A_REQUEST):
        store.client.log_batch(run_id, params=params[start : start + _PARAMS_A_REQUEST])
    for start in range(0, len(metrics), _METRICS_A_REQUEST):
        store.client.log_batch(run_id, metrics=metrics[start : start + _METRICS_A_REQUEST])
    with upload_patience():
        for path in record.files:
            store.client.log_artifact(run_id, str(path))
    store.client.set_tag(run_id, COMPLETE_TAG, "true")
    store.client.set_terminated(run_id, _status(record.failed))
    return run_id


def _create_run(store: Store, name: str, tags: Mapping[str, str]) -> str:
    """Make a run; its name, its parent and the writer in its tags find it again."""
    cut = {key: value[:TAG_LIMIT] for key, value in tags.items()}
    marks = [key for key in (WRITER_TAG, PARENT_TAG, STAGE_TAG, RESULT_TAG) if key in tags]
    wanted = " and ".join(f"tags.{key} = '{tags[key]}'" for key in marks)

    def find() -> str | None:
        found = [run for run in search_runs(store, wanted) if (PARENT_TAG in run.data.tags) == (PARENT_TAG in tags)]
        return str(min(found, key=_order).info.run_id) if found else None

    def make() -> str:
        return str(store.client.create_run(store.experiment_id, run_name=name, tags=cut).info.run_id)

    return made_once(make, find)


def _status(failed: bool) -> str:
    return "FAILED" if failed else "FINISHED"
