"""Requests that make something, on a real MLflow server behind a proxy that delays, loses and repeats them."""

import gc
import os
import threading
import time
from contextlib import suppress

import pytest
from mlflow_server import HOST, drawn_faults, first_time, mlflow_server, proxy

from kd_steps.adapters.mlflow import aliases, leftovers, making, runs, versions
from kd_steps.adapters.mlflow.faults import TrackingError
from kd_steps.adapters.mlflow.runs import PARENT_TAG, RESULT_TAG, StageRecord
from kd_steps.adapters.mlflow.tracking import open_store

pytestmark = pytest.mark.slow

NAME = "retort-onnx-fp32"
MADE = {"a version": "model-versions/create", "a run": "runs/create"}
TIMEOUT_S, LATE_S, VERY_LATE_S = 2, 3.0, 8.0  # the last comes after it was looked for and made again
FAULTS = {
    **{"late answer": ("late answer", LATE_S), "very late request": ("late request", VERY_LATE_S)},
    **{"lost request": ("lost request", 0), "lost answer": ("lost answer", 0), "twice": ("twice", 0)},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """Registers a small result at an address; gives its runs and its version."""
    monkeypatch.setenv("NO_PROXY", HOST)
    (tmp_path / "onnx-fp32").mkdir()
    (tmp_path / "onnx-fp32/model.onnx").write_text("weights")
    records = [
        StageRecord("export", {"a": 1}, {"b": 2}),
        StageRecord("evaluate", files=(tmp_path / "onnx-fp32/model.onnx",)),
    ]

    def register(address, digest, timeout_s=30):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout_s))
        with open_store(tmp_path, "retort") as store:
            logged = runs.log_result(store, digest, {}, records)
            made = versions.register_engine(
                store, NAME, logged.runs["evaluate"], tmp_path / "onnx-fp32", {"release_digest": digest}
            )
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(min(timeout_s, TIMEOUT_S)))  # how long it watches
            leftovers.tidy_result(store, digest, logged)
            check = None if timeout_s < 30 else check_whole(store, digest, made)
        return made, check

    return register


def check_whole(store, digest, made):
    """One version a digest with its files, one tree a result, nothing running, and the alias where it belongs."""
    found = store.client.search_model_versions(f"name = '{NAME}'")
    digests = [version.tags["release_digest"] for version in found]
    assert sorted(digests) == sorted(set(digests)), "a digest has two versions"
    (version,) = [version for version in found if version.tags["release_digest"] == digest]
    assert str(version.version) == made.version == aliases.holder(store, NAME, "candidate")
    assert aliases.differences(store.client, NAME) == []
    every = store.client.search_runs([store.experiment_id])
    assert [run for run in every if run.info.status == "RUNNING"] == []
    tree = [run for run in every if run.data.tags[RESULT_TAG] == digest]
    (parent,) = [run.info.run_id for run in tree if PARENT_TAG not in run.data.tags]
    assert sorted(run.data.tags.get(PARENT_TAG, "") for run in tree) == ["", parent, parent]
    assert [file.path for file in store.client.list_artifacts(version.run_id, "engines/onnx-fp32")]
    return True


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("made", list(MADE))
def test_one_fault_of_a_request_makes_nothing_double(server, registered, made, fault):
    digest = f"{list(FAULTS).index(fault)}{list(MADE).index(made)}" * 32
    kind, delay_s = FAULTS[fault]
    with proxy(server, first_time(kind, "POST", MADE[made]), delay_s) as address:
        first, _ = registered(address, digest, TIMEOUT_S)
    again, whole = registered(server, digest)
    assert (again.version, again.created, again.put_back, whole) == (first.version, False, False, True)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_befell_requests_an_undisturbed_registration_leaves_one_of_each(server, registered, seed):
    digest = f"{seed}a" * 32
    with proxy(server, drawn_faults(seed, 0.15), LATE_S) as address:
        for _ in range(2):
            with suppress(TrackingError):
                registered(address, digest, TIMEOUT_S)
    assert registered(server, digest)[1]
    wait_for_uploads()


def wait_for_uploads():
    """MLflow uploads from threads, which try on for a while after the call has failed, and keeps them for later."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(t.name.startswith("Mlflow") for t in threading.enumerate()):
        gc.collect()  # an idle one ends with its pool
        time.sleep(0.2)


def test_a_refusal_is_told_at_once(server, registered, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "line")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wr0ng")
    with proxy(server, lambda method, path: "", password="right") as address:
        with pytest.raises(TrackingError, match="does not accept the credentials") as told:
            registered(address, "f" * 64)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "right")
        assert registered(address, "f" * 64)[1]
    assert "wr0ng" not in str(told.value)


def test_the_settings_leave_the_users_alone_and_go_again(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with making.settings():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
        with making.upload_patience():
            assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_the_upload_may_take_longer_than_the_first_contact(monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with making.settings():
        with making.upload_patience():
            assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
