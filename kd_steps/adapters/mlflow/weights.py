"""Weights from MLflow's registry: of a registered model, or those that a registered engine was built from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from kd_steps.adapters.files import sha256_of
from kd_steps.adapters.mlflow.address import tracking_uri
from kd_steps.adapters.mlflow.faults import TrackingError, clear_errors
from kd_steps.adapters.mlflow.making import settings
from kd_steps.adapters.mlflow.moved import move_along
from kd_steps.adapters.mlflow.runs import PARENT_TAG, STAGE_TAG
from kd_steps.adapters.mlflow.tracking import open_client
from kd_steps.artifacts import paths

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SOURCE_TAG = "student_sha256"  # of an engine: the weights it was built from, which the run of SOURCE_STAGE keeps
SOURCE_STAGE, SOURCE_FILE = "few_shot", paths.WEIGHTS


def download_weights(root: Path, model_uri: str, folder: Path) -> Path:
    """Fetch the weights of a registered model, such as ``models:/retort-teacher@production``.

    Of an engine that this pipeline registered, they are the weights that it was built from; of any other model, its
    only ``.pt`` file.

    Raises:
        TrackingError: MLflow cannot be reached or knows no such model, its run does not keep the weights, they are not
            those that the engine was built from, or it does not hold exactly one ``.pt`` file.
    """
    uri = tracking_uri(root)
    with settings(), clear_errors(uri):
        move_along(root)
        client = open_client(uri)  # looks at the database before MLflow does
        from mlflow import artifacts

        version = _version(client, model_uri)
        if version is not None and SOURCE_TAG in version.tags:
            return _source_weights(client, model_uri, version, folder)
        place = client.get_model_version_download_uri(version.name, version.version) if version else model_uri
        fetched = Path(artifacts.download_artifacts(artifact_uri=place, dst_path=str(folder), tracking_uri=uri))
    weights = sorted(fetched.rglob("*.pt"))
    if len(weights) != 1:
        raise TrackingError(f"{model_uri} holds {len(weights)} .pt files; a teacher needs exactly one")
    return weights[0]


def _version(client: MlflowClient, model_uri: str) -> ModelVersion | None:
    """The version that a URI with an alias or a number names; None for other URIs."""
    found = re.fullmatch(r"models:/([^@/]+)(?:@([^/]+)|/(\d+))", model_uri)
    if found is None:
        return None
    name, alias, number = found.groups()
    return client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)


def _source_weights(client: MlflowClient, model_uri: str, version: ModelVersion, folder: Path) -> Path:
    """The weights that an engine was built from, which the run of the stage that made them keeps."""
    run = client.get_run(str(version.run_id))
    parent, told = run.data.tags.get(PARENT_TAG, ""), version.tags[SOURCE_TAG]
    wanted = f"tags.{STAGE_TAG} = '{SOURCE_STAGE}' and tags.{PARENT_TAG} = '{parent}'"
    for source in client.search_runs([run.info.experiment_id], wanted):
        if any(file.path == SOURCE_FILE for file in client.list_artifacts(source.info.run_id)):
            weights = Path(client.download_artifacts(source.info.run_id, SOURCE_FILE, str(folder)))
            if (found := sha256_of(weights)) != told:
                raise TrackingError(
                    f"{model_uri}: the weights kept with its run have sha256 {found}, it was built from {told}"
                )
            return weights
    raise TrackingError(
        f"{model_uri}: its runs keep no {SOURCE_FILE}: the files were removed from MLflow (they lay beside "
        f"{run.info.artifact_uri}), or an older Retort registered it. `dvc repro -f -s register` in the project that "
        "made it puts them back; or name a weight file instead"
    )
