"""MLflow: reaching it, and the runs of a pipeline result. Only this folder imports mlflow."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kd_steps.core.report.leaves import numeric_leaves, text_leaves

if TYPE_CHECKING:
    from mlflow import MlflowClient

RESULT_TAG = "result_digest"
STAGE_TAG = "pipeline_stage"
COMPLETE_TAG = "complete"

# MLflow's own bounds of one request.
TAG_LIMIT = 8000
_NAME_LIMIT, _PARAM_LIMIT = 250, 6000
_PARAMS_A_REQUEST, _METRICS_A_REQUEST = 100, 1000
# A server that does not answer would hold a stage for minutes with MLflow's defaults.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
_UPLOAD_TIMEOUT_S = 60


class TrackingError(ValueError):
    """MLflow did not do what was asked; the message names the address, what is safe, and how to resume."""


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
class Store:
    """A reachable MLflow store and the experiment that receives the runs."""

    client: MlflowClient
    uri: str
    experiment_id: str


def tracking_uri(root: Path) -> str:
    """``MLFLOW_TRACKING_URI``, or the SQLite file at the project's root, as an absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def without_credentials(uri: str) -> str:
    """The address without user, password and query, fit for a receipt or a message."""
    parts = urlsplit(uri)
    return (
        parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl() if parts.netloc else uri
    )


@contextmanager
def open_store(root: Path, experiment: str) -> Iterator[Store]:
    """Reach MLflow, make the experiment if it is new, and turn MLflow's faults into one clear error.

    Raises:
        TrackingError: MLflow does not answer, or refuses; here or anywhere within the block.
    """
    uri = tracking_uri(root)
    with clear_errors(uri):
        client = open_client(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            # Only the local store keeps files beside the project; a server decides for itself.
            location = (root.resolve() / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
            experiment_id = client.create_experiment(experiment, artifact_location=location)
        elif found.lifecycle_stage != "active":
            raise TrackingError(
                f"experiment '{experiment}' at {without_credentials(uri)} was deleted there; restore it with "
                f"`mlflow experiments restore -x {found.experiment_id}` or choose another register.experiment"
            )
        else:
            experiment_id = found.experiment_id
            _require_own_files(uri, root, found.artifact_location)
        yield Store(client, uri, str(experiment_id))


def _require_own_files(uri: str, root: Path, location: str) -> None:
    """Refuse the local store of a project that was moved or copied: it goes on keeping files where it was made."""
    here = (root.resolve() / "mlartifacts").as_uri()
    if "MLFLOW_TRACKING_URI" not in os.environ and location.rstrip("/") != here:
        raise TrackingError(
            f"{uri} keeps its files in {location}: this project was moved or copied from there; put it back, or remove "
            "mlflow.db and begin a store of this folder's own"
        )


def log_result(store: Store, digest: str, tags: Mapping[str, str], records: list[StageRecord]) -> dict[str, str]:
    """Log one pipeline result: a parent run and a child run for each stage.

    Safe to repeat: what ``digest`` already logged is kept, what a kill left half-done is made again.

    Args:
        store: the open store.
        digest: names the result; the same digest is the same result.
        tags: lineage of the result, set on the parent.
        records: one for each stage.

    Returns:
        Stage name → run id; the parent under ``"parent"``.
    """
    failed = any(record.failed for record in records)
    parent = _find_run(store, RESULT_TAG, digest, parent_id=None)
    if parent is None:
        parent = _create_run(store, f"result-{digest[:8]}", {**tags, RESULT_TAG: digest})
    runs = {"parent": parent}
    for record in records:
        runs[record.stage] = _log_stage(store, record, parent)
    for name, value in tags.items():
        store.client.set_tag(parent, name, value[:TAG_LIMIT])
    store.client.set_terminated(parent, "FAILED" if failed else "FINISHED")
    return runs


def open_client(uri: str) -> MlflowClient:
    """A client of the store at an address, with little patience for one that does not answer."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for chatty in ("alembic", "mlflow.store.db.utils"):  # a new SQLite file is not news
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if not urlsplit(uri).scheme.startswith(("http", "databricks", "file")) and "://" in uri:
        _touch_database(uri)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def clear_errors(uri: str) -> Iterator[None]:
    """Name the address, what is safe and how to resume, whatever MLflow, its database or the network raised."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, ConnectionError, ImportError) as error:
        shown = without_credentials(uri)
        reason = re.sub(r"//[^/@\s]+@", "//", str(error).replace(uri, shown)).strip().split("\n")[0]
        raise TrackingError(
            f"MLflow at {shown} cannot be used: {reason}\n"
            "Nothing was lost: models, engines, metrics and the dossier are in the project's folders. When MLflow "
            "answers again, or MLFLOW_TRACKING_URI names another one, go on with `dvc repro register`."
        ) from error


@contextmanager
def upload_patience() -> Iterator[None]:
    """A server that answers may still need longer to store an engine than to say that it is there."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ.get(name)
    if before == _PATIENCE[name]:
        os.environ[name] = str(_UPLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before


def _touch_database(uri: str) -> None:
    """Fail at once on a database that cannot be read: MLflow would try it fifteen times, for half an hour."""
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    inspect(create_engine(uri, poolclass=NullPool)).get_table_names()


def _log_stage(store: Store, record: StageRecord, parent_id: str) -> str:
    from mlflow.entities import Metric, Param

    found = _find_run(store, STAGE_TAG, record.stage, parent_id)
    if found is not None:
        if store.client.get_run(found).data.tags.get(COMPLETE_TAG) == "true":
            return found
        store.client.delete_run(found)  # left by a kill; its metrics would be logged twice
    run_id = _create_run(store, record.stage, {STAGE_TAG: record.stage, "mlflow.parentRunId": parent_id})
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
    store.client.set_terminated(run_id, "FAILED" if record.failed else "FINISHED")
    return run_id


def _find_run(store: Store, tag: str, value: str, parent_id: str | None) -> str | None:
    terms = [f"tags.{tag} = '{value}'"] + ([f"tags.mlflow.parentRunId = '{parent_id}'"] if parent_id else [])
    runs = store.client.search_runs([store.experiment_id], " and ".join(terms), order_by=["attributes.start_time ASC"])
    return runs[0].info.run_id if runs else None


def _create_run(store: Store, name: str, tags: Mapping[str, str]) -> str:
    cut = {key: value[:TAG_LIMIT] for key, value in tags.items()}
    return str(store.client.create_run(store.experiment_id, run_name=name, tags=cut).info.run_id)
