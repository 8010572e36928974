"""Runs that nobody needs: of kills, of late answers, of two who logged one result at once.

No run that a registered version points to is removed; it moves to the parent that counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kd_steps.adapters.mlflow.making import patience_s
from kd_steps.adapters.mlflow.runs import (
    PARENT_TAG,
    RESULT_TAG,
    STAGE_TAG,
    WRITER_TAG,
    Logged,
    children_of,
    complete_parent,
    has_ended,
    is_active,
    is_complete,
    parents_of,
    search_runs,
)
from kd_steps.adapters.mlflow.tracking import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

ABANDONED_AFTER_S = 3600.0


def tidy_result(store: Store, digest: str, logged: Logged) -> None:
    """Leave one tree of runs of a result that was just logged and registered, with one run a stage.

    An unfinished tree may be that of a process at work: it is watched, and removed if nothing happens to it. Its
    process, if it was only slow, finds the complete one and takes that.
    """
    kept = complete_parent(store, digest)
    if kept is None:  # someone removed it by hand just now
        return
    others = [run for run in parents_of(store, digest) if run.info.run_id != kept]
    strange = [run for run in others if not has_ended(run) and run.data.tags.get(WRITER_TAG) != logged.writer]
    at_work = _that_move(store, strange)
    for parent in others:
        if parent.info.run_id not in at_work:
            _remove_tree(store, parent, kept)
    _tidy_children(store, kept, at_work, digest)
    _end_abandoned(store, digest)


def _that_move(store: Store, parents: Sequence[Run]) -> set[str]:
    """Those of some unfinished trees to which something happens while we watch."""
    if not parents:
        return set()
    before = {parent.info.run_id: _look_of(store, parent.info.run_id) for parent in parents}
    time.sleep(patience_s())
    return {run_id for run_id, look in before.items() if _look_of(store, run_id) != look}


def _look_of(store: Store, parent_id: str) -> list[tuple[object, ...]]:
    runs = [store.client.get_run(parent_id), *children_of(store, parent_id)]
    return [
        (
            run.info.run_id,
            run.info.status,
            run.info.lifecycle_stage,
            len(run.data.params),
            len(run.data.metrics),
            len(run.data.tags),
        )
        for run in runs
    ]


def _remove_tree(store: Store, parent: Run, kept: str) -> None:
    children = children_of(store, parent.info.run_id)
    store.client.delete_run(parent.info.run_id)  # first, so that its writer knows why it may not go on
    for child in children:
        _remove_or_move(store, child, kept)


def _tidy_children(store: Store, kept: str, at_work: set[str], digest: str) -> None:
    """One run a stage below the parent that counts, and none whose own parent is gone."""
    taken: set[str] = set()
    children = children_of(store, kept)
    held = {run.info.run_id for run in children if _is_held(store, run)}
    children = [run for run in children if STAGE_TAG in run.data.tags]  # a person may have put others there
    for run in sorted(children, key=lambda run: run.info.run_id not in held):
        stage = run.data.tags[STAGE_TAG]
        if run.info.run_id in held or (is_complete(run) and stage not in taken):
            taken.add(stage)
        else:
            store.client.delete_run(run.info.run_id)
    for run in search_runs(store, f"tags.{RESULT_TAG} = '{digest}'"):
        parent = run.data.tags.get(PARENT_TAG)
        if parent and parent != kept and parent not in at_work and not is_active(store, parent):
            _remove_or_move(store, run, kept)


def _remove_or_move(store: Store, run: Run, kept: str) -> None:
    if STAGE_TAG not in run.data.tags or _is_held(store, run):
        store.client.set_tag(run.info.run_id, PARENT_TAG, kept)
    else:
        store.client.delete_run(run.info.run_id)


def _is_held(store: Store, run: Run) -> bool:
    """Whether a registered version points to a run."""
    return bool(store.client.search_model_versions(f"run_id = '{run.info.run_id}'"))


def _end_abandoned(store: Store, digest: str) -> None:
    """End runs of other results that were begun long ago and left running by a kill."""
    for run in search_runs(store, "attributes.status = 'RUNNING'"):
        ours = RESULT_TAG in run.data.tags or STAGE_TAG in run.data.tags
        age_s = time.time() - run.info.start_time / 1000
        if ours and run.data.tags.get(RESULT_TAG) != digest and age_s > ABANDONED_AFTER_S:
            store.client.set_terminated(run.info.run_id, "KILLED")
