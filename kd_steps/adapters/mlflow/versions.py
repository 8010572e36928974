"""MLflow's model registry: versions of the engines that passed, one for each release digest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kd_steps.adapters.mlflow.aliases import DIGEST_TAG, follow_aliases, holder, set_state
from kd_steps.adapters.mlflow.faults import TrackingError
from kd_steps.adapters.mlflow.making import made_once
from kd_steps.adapters.mlflow.run_files import kept_place, put_back_folder
from kd_steps.adapters.mlflow.tracking import TAG_LIMIT, Store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Registered:
    """A version of a registered model: whether this call made it, or put back files that MLflow had lost."""

    name: str
    version: str
    created: bool
    put_back: bool = False


def register_engine(
    store: Store,
    name: str,
    run_id: str,
    folder: Path,
    tags: Mapping[str, str],
    is_whole: Callable[[Path], bool] | None = None,
) -> Registered:
    """Register an engine's folder as a version of the model ``name``, once for each release digest.

    A version counts when its files are there and the right ones; else they are put back. The server numbers versions as
    they come in, so that of several with one digest all agree on the lowest; the others are removed, whoever made them.
    The version takes the alias ``candidate``, unless it holds the alias ``production``.

    Args:
        store: the open store.
        name: the registered model.
        run_id: the run that keeps the files.
        folder: of the release: engine, manifest, golden inputs and outputs, thresholds.
        tags: lineage and gate results; ``release_digest`` must be among them.
        is_whole: whether a downloaded folder is this release, where its bytes are not those of ``folder``.
    """
    digest = tags[DIGEST_TAG]
    _ensure_model(store, name)
    version = _the_one_version(store, name, digest)
    created, put_back = version is None, False
    if version is None:
        made = _new_version(store, name, run_id, folder, tags)
        version = _the_one_version(store, name, digest)
        if version is None:
            raise TrackingError(f"{name} version {made} was removed while it was registered; {_AGAIN}")
        created = str(version.version) == made
    if not created:
        put_back = _put_back(store, version, folder, is_whole)
    number = str(version.version)
    if holder(store, name, "production") == number:  # an alias that a person set in MLflow counts, too
        follow_aliases(store, name)
    else:
        set_state(store, name, number, "candidate")
    return Registered(name, number, created, put_back)


_AGAIN = "run `dvc repro -f -s register` again"


def versions_of_digest(store: Store, name: str, digest: str) -> list[ModelVersion]:
    """The versions of ``name`` with the release of this digest, in the server's order."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise TrackingError(f"{name}: release digest {digest!r} is not a sha256; run `dvc repro evaluate`")
    found = store.client.search_model_versions(f"name = '{name}' and tags.{DIGEST_TAG} = '{digest}'")
    return sorted(found, key=lambda version: int(version.version))


def _the_one_version(store: Store, name: str, digest: str) -> ModelVersion | None:
    """The version that counts, after the others with its digest were removed; None where none has a run to stand on."""
    found = versions_of_digest(store, name, digest)
    standing = [version for version in found if _has_run(store, version)]
    for version in found:
        if standing and version.version != standing[0].version:
            _remove(store, name, str(version.version), instead=str(standing[0].version))
    return standing[0] if standing else None


def _new_version(store: Store, name: str, run_id: str, folder: Path, tags: Mapping[str, str]) -> str:
    path = f"engines/{folder.name}"
    put_back_folder(store, run_id, path, folder)
    before = {str(version.version) for version in versions_of_digest(store, name, tags[DIGEST_TAG])}
    cut = {key: value[:TAG_LIMIT] for key, value in tags.items()}

    def make() -> str:
        source = f"runs:/{run_id}/{path}"
        made = store.client.create_model_version(name, source, run_id, tags=cut, await_creation_for=0)
        return str(made.version)

    def find() -> str | None:
        found = [str(version.version) for version in versions_of_digest(store, name, tags[DIGEST_TAG])]
        return next((version for version in found if version not in before), None)

    return made_once(make, find)


def _remove(store: Store, name: str, version: str, instead: str) -> None:
    """Remove a version that another stands for; what aliases it has the other takes first."""
    from mlflow.exceptions import MlflowException

    for alias, number in store.client.get_registered_model(name).aliases.items():
        if str(number) == version:
            store.client.set_registered_model_alias(name, alias, instead)
    try:
        store.client.delete_model_version(name, version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # who made it may remove it at the same time
            raise


def _has_run(store: Store, version: ModelVersion) -> bool:
    """Whether a version's run can keep files; one that a person deleted is taken back from MLflow's bin."""
    from mlflow.exceptions import MlflowException

    place = kept_place(str(version.source))
    try:
        run = store.client.get_run(place[0]) if place else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    if run is not None and run.info.lifecycle_stage != "active":
        store.client.restore_run(run.info.run_id)
    return True


def _put_back(store: Store, version: ModelVersion, folder: Path, is_whole: Callable[[Path], bool] | None) -> bool:
    place = kept_place(str(version.source))
    if place is None:
        raise TrackingError(
            f"{version.name} version {version.version} has the digest of {folder} and lies in {version.source}, which "
            "Retort did not write: remove that version, or its tag release_digest, and " + _AGAIN
        )
    return put_back_folder(store, place[0], place[1], folder, is_whole)


def _ensure_model(store: Store, name: str) -> None:
    from mlflow.exceptions import MlflowException

    def find() -> str | None:
        return str(found[0].name) if (found := store.client.search_registered_models(f"name = '{name}'")) else None

    if find() is None:
        try:
            made_once(lambda: str(store.client.create_registered_model(name).name), find)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
