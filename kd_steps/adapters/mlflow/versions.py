"""MLflow's model registry: versions of the engines that passed.

Aliases and tags are the truth about a version; MLflow's older "stage" is kept in step for people who look for it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kd_steps.adapters.mlflow.tracking import TAG_LIMIT, Store, TrackingError, upload_patience

State = Literal["candidate", "production"]
MLFLOW_STAGE: dict[str, str] = {"candidate": "Staging", "production": "Production"}
RETIRED = "archived"

DIGEST_TAG = "release_digest"
STATE_TAG = "state"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model, and whether this call made it."""

    name: str
    version: str
    created: bool


def register_engine(store: Store, name: str, run_id: str, folder: Path, tags: Mapping[str, str]) -> Registered:
    """Register an engine's folder as a version of the model ``name``, once for each release digest.

    The version takes the alias ``candidate``, unless it holds the alias ``production``.

    Args:
        store: the open store.
        name: the registered model.
        run_id: the run that keeps the files.
        folder: of the release: engine, manifest, golden inputs and outputs, thresholds.
        tags: lineage and gate results; ``release_digest`` must be among them.
    """
    digest = tags[DIGEST_TAG]
    _ensure_model(store, name)
    version = version_of_digest(store, name, digest)
    created = version is None
    if version is None:
        path = f"engines/{folder.name}"
        with upload_patience():
            store.client.log_artifacts(run_id, str(folder), artifact_path=path)
        cut = {key: value[:TAG_LIMIT] for key, value in tags.items()}
        source = f"runs:/{run_id}/{path}"
        version = store.client.create_model_version(name, source, run_id, tags=cut, await_creation_for=0).version
    if holder(store, name, "production") != str(version):  # an alias that a person set in MLflow counts, too
        set_state(store, name, version, "candidate")
    return Registered(name, str(version), created)


def version_of_digest(store: Store, name: str, digest: str) -> str | None:
    """The version of ``name`` that holds the release with this digest, or None."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise TrackingError(f"{name}: release digest {digest!r} is not a sha256; run `dvc repro evaluate`")
    found = store.client.search_model_versions(f"name = '{name}' and tags.{DIGEST_TAG} = '{digest}'")
    return str(min(found, key=lambda version: int(version.version)).version) if found else None


def holder(store: Store, name: str, state: State) -> str | None:
    """The version of ``name`` that holds the alias ``state``, or None; re-read it inside a lock before moving it."""
    version = store.client.get_registered_model(name).aliases.get(state)
    return None if version is None else str(version)


def set_state(store: Store, name: str, version: str, state: State) -> None:
    """Give a version the alias ``state``; the version that held it is archived.

    Alias first, then tags, then MLflow's stage: after a kill in between, the same call completes the rest. Two callers
    at once are not refused by MLflow, the last one wins: promote within a lock.
    """
    before = holder(store, name, state)
    other: State = "production" if state == "candidate" else "candidate"
    if holder(store, name, other) == version:
        store.client.delete_registered_model_alias(name, other)
    store.client.set_registered_model_alias(name, state, version)
    store.client.set_model_version_tag(name, version, STATE_TAG, state)
    _set_mlflow_stage(store, name, version, MLFLOW_STAGE[state])
    if before is not None and before != version:
        stays = holder(store, name, other) == before  # a person may have given it the other alias as well
        store.client.set_model_version_tag(name, before, STATE_TAG, other if stays else RETIRED)
        _set_mlflow_stage(store, name, before, MLFLOW_STAGE[other] if stays else "Archived")


def _ensure_model(store: Store, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _set_mlflow_stage(store: Store, name: str, version: str, stage: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        store.client.transition_model_version_stage(name, version, stage)
