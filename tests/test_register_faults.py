"""`register` against a real MLflow server whose requests and answers come late, twice or never."""

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from pathlib import Path

import pytest
from dossier_fixture import build_project
from mlflow_server import HOST, first_time, mlflow_server, proxy

from kd_steps.adapters.files import sha256_of
from kd_steps.adapters.mlflow.runs import RESULT_TAG
from kd_steps.adapters.mlflow.tracking import Store, open_store
from kd_steps.artifacts import Receipt, paths
from kd_steps.register import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(autouse=True)
def _busy_machines_are_slow(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    monkeypatch.setenv("NO_PROXY", HOST)


def register(root: Path, uri: str) -> str:
    """What `register` says, in this process."""
    with pytest.MonkeyPatch.context() as patch, chdir(root), redirect_stdout(io.StringIO()) as said:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        main()
    return said.getvalue()


def check_whole(root: Path, uri: str) -> None:
    """One version a digest with its files, one parent a result, nothing running, and the alias where it belongs."""
    receipt = Receipt.model_validate_json((root / paths.RECEIPT).read_bytes())
    assert receipt.problem is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        with open_store(root, "retort") as store:
            check_runs(store, receipt.parent_run_id)
            for model in receipt.models:
                found = store.client.search_model_versions(f"name = '{model.name}'")
                digests = [version.tags["release_digest"] for version in found]
                assert len(digests) == len(set(digests)), "a digest has two versions"
                by_number = {str(version.version): version for version in found}
                version = by_number[model.version]
                assert version.tags["release_digest"] == model.release_digest
                assert (version.tags["state"], version.current_stage) == ("candidate", "Staging")
                assert str(store.client.get_registered_model(model.name).aliases["candidate"]) == model.version
                check_files(store, root / "models/releases" / model.target, version)


def check_runs(store: Store, parent: str) -> None:
    runs = store.client.search_runs([store.experiment_id], max_results=1000)
    assert [run for run in runs if run.info.status == "RUNNING"] == []
    (ours,) = [run for run in runs if run.info.run_id == parent]
    digest = ours.data.tags[RESULT_TAG]
    tree = [run for run in runs if run.data.tags.get(RESULT_TAG) == digest]
    parents = [run for run in tree if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_id for run in parents] == [parent]
    assert {run.data.tags.get("mlflow.parentRunId", parent) for run in tree} == {parent}
    stages = {run.data.tags.get("pipeline_stage", "") for run in tree}
    assert len(stages) == 10


def check_files(store: Store, folder: Path, version) -> None:
    run_id, _, path = version.source.removeprefix("runs:/").partition("/")
    kept = Path(store.client.download_artifacts(run_id, path))
    assert {file.name: sha256_of(file) for file in kept.iterdir()} == {
        file.name: sha256_of(file) for file in folder.iterdir()
    }


def test_an_answer_that_comes_late_registers_nothing_twice(server, tmp_path, monkeypatch):
    """The server made the version; its answer comes after the client has given up."""
    root = build_project(tmp_path / "project", seed=40)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with proxy(server, first_time("late answer", "POST", "model-versions/create"), delay_s=4) as address:
        assert "version 1: registered" in register(root, address)
    assert "already registered" in register(root, server)
    check_whole(root, server)


def test_two_processes_that_register_one_result_at_once(server, tmp_path):
    command = [sys.executable, "-m", "kd_steps.register"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MLFLOW_TRACKING_URI": server}
    environment["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "10"
    roots = [build_project(tmp_path / name, seed=50) for name in ("one", "two")]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=root, env=environment, **streams) for root in roots]
    for process in both:
        said, told = process.communicate(timeout=300)
        assert process.returncode == 0, said + told
    for root in roots:
        register(root, server)
    for root in roots:
        check_whole(root, server)
