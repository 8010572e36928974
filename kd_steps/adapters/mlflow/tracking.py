"""MLflow: reaching the store that a project's runs and versions go to. Only this folder imports mlflow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kd_steps.adapters.mlflow.address import ARTIFACTS, tracking_uri, without_credentials
from kd_steps.adapters.mlflow.faults import TrackingError, clear_errors
from kd_steps.adapters.mlflow.making import made_once, settings
from kd_steps.adapters.mlflow.moved import move_along

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

# MLflow's own bound of one tag.
TAG_LIMIT = 8000


@dataclass(frozen=True)
class Store:
    """A reachable MLflow store and the experiment that receives the runs."""

    client: MlflowClient
    uri: str
    experiment_id: str


@contextmanager
def open_store(root: Path, experiment: str) -> Iterator[Store]:
    """Reach MLflow, make the experiment if it is new, and turn MLflow's faults into one clear error.

    Raises:
        TrackingError: MLflow does not answer, or refuses; here or anywhere within the block.
    """
    uri = tracking_uri(root)
    with settings(), clear_errors(uri):
        move_along(root)
        client = open_client(uri)
        yield Store(client, uri, _experiment(client, uri, root, experiment))


def open_client(uri: str) -> MlflowClient:
    """A client of the store at an address; use it within the settings."""
    for chatty in ("alembic", "mlflow.store.db.utils"):  # a new SQLite file is not news
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if not urlsplit(uri).scheme.startswith(("http", "databricks", "file")) and "://" in uri:
        _touch_database(uri)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _experiment(client: MlflowClient, uri: str, root: Path, name: str) -> str:
    """The id of an experiment, which is made where it is new."""
    found = client.get_experiment_by_name(name) or _new_experiment(client, uri, root, name)
    shown = without_credentials(uri)
    if not found.experiment_id:
        raise TrackingError(f"what answers at {shown} is no MLflow server; see whether MLFLOW_TRACKING_URI is right")
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment '{name}' at {shown} was deleted there; restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}` or choose another register.experiment"
        )
    return str(found.experiment_id)


def _new_experiment(client: MlflowClient, uri: str, root: Path, name: str) -> Experiment:
    from mlflow.exceptions import MlflowException

    # Only a store in a file keeps files beside the project; a server decides for itself.
    location = (root.resolve() / ARTIFACTS).as_uri() if uri.startswith("sqlite:") else None
    try:
        made_once(
            lambda: client.create_experiment(name, artifact_location=location),
            lambda: (found := client.get_experiment_by_name(name)) and found.experiment_id,
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
            raise
    found = client.get_experiment_by_name(name)
    assert found is not None
    return found


def _touch_database(uri: str) -> None:
    """Fail at once on a database that cannot be read: MLflow would try it fifteen times, for half an hour."""
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    inspect(create_engine(uri, poolclass=NullPool)).get_table_names()
