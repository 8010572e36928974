"""Runs that kills, late answers and two at once leave: they go, and no version loses its run."""

import threading
import time

import pytest

from kd_steps.adapters.mlflow import leftovers, runs, versions
from kd_steps.adapters.mlflow.runs import PARENT_TAG, RESULT_TAG, STAGE_TAG, StageRecord

RECORDS = [StageRecord("export"), StageRecord("evaluate")]


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


def make(store, digest, parent=None, stage=None, **more):
    tags = {RESULT_TAG: digest} | ({PARENT_TAG: parent, STAGE_TAG: stage} if parent else {})
    return store.client.create_run(store.experiment_id, tags=tags, **more).info.run_id


def active(store, digest):
    return {run.info.run_id: run for run in runs.search_runs(store, f"tags.{RESULT_TAG} = '{digest}'")}


def test_what_a_kill_and_late_answers_left_is_removed(store):
    digest = "a" * 64
    torn = make(store, digest)
    make(store, digest, torn, "export")
    logged = runs.log_result(store, digest, {}, RECORDS)
    make(store, digest, logged.runs["parent"], "export")  # a late twin
    gone = make(store, digest)
    make(store, digest, gone, "evaluate")  # whose parent is no more
    store.client.delete_run(gone)
    leftovers.tidy_result(store, digest, logged)
    assert set(active(store, digest)) == set(logged.runs.values())
    assert {run.info.status for run in active(store, digest).values()} == {"FINISHED"}


def test_a_run_with_a_version_moves_to_the_tree_that_counts(store, tmp_path):
    digest, folder = "b" * 64, tmp_path / "onnx"
    folder.mkdir()
    (folder / "model.onnx").write_text("weights")
    first = runs.log_result(store, digest, {}, RECORDS)
    versions.register_engine(store, "moved", first.runs["evaluate"], folder, {"release_digest": digest})
    before = int(store.client.get_run(first.runs["parent"]).info.start_time) - 1000
    other = make(store, digest, start_time=before)  # of two that were logged at once, the earlier one
    for stage in ("export", "evaluate"):
        child = make(store, digest, other, stage)
        store.client.set_tag(child, runs.COMPLETE_TAG, "true")
        store.client.set_terminated(child)
    store.client.set_terminated(other)
    again = runs.log_result(store, digest, {}, RECORDS)
    assert again.runs["parent"] == other
    leftovers.tidy_result(store, digest, again)
    left = active(store, digest)
    assert len(left) == 3, "a parent, export, and the evaluate that has the version"
    assert left[first.runs["evaluate"]].data.tags[PARENT_TAG] == other
    assert runs.log_result(store, digest, {}, RECORDS).runs["evaluate"] == first.runs["evaluate"]


def test_a_tree_that_another_process_is_writing_stays(store):
    digest = "c" * 64
    theirs = make(store, digest)
    logged = runs.log_result(store, digest, {}, RECORDS)
    done = threading.Event()

    def write():
        number = 0
        while not done.is_set():
            store.client.set_tag(theirs, f"step{number}", "done")
            number += 1
            time.sleep(0.2)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        leftovers.tidy_result(store, digest, logged)
    finally:
        done.set()
        writer.join()
    assert theirs in active(store, digest)


def test_whoever_finds_its_tree_removed_takes_the_complete_one(store):
    """As a slow process whose runs another one took for those of a kill."""
    digest, kept = "d" * 64, []

    class Removed(tuple):
        """The files of a stage: when they are looked at, another process has logged the result and tidied up."""

        def __iter__(self):
            if not kept:
                kept.append(runs.log_result(store, digest, {}, RECORDS))
                leftovers.tidy_result(store, digest, kept[0])
            return super().__iter__()

    logged = runs.log_result(store, digest, {}, [StageRecord("export", files=Removed()), StageRecord("evaluate")])
    assert logged.runs == kept[0].runs
    assert set(active(store, digest)) == set(logged.runs.values())


def test_long_abandoned_runs_of_other_results_are_ended(store):
    old = make(store, "e" * 64, start_time=int((time.time() - 2 * leftovers.ABANDONED_AFTER_S) * 1000))
    new = make(store, "f" * 64)
    logged = runs.log_result(store, "0" * 64, {}, RECORDS)
    leftovers.tidy_result(store, "0" * 64, logged)
    assert store.client.get_run(old).info.status == "KILLED"
    assert store.client.get_run(new).info.status == "RUNNING"
