"""MLflow's registry: which version is the candidate, which is in production.

A version's alias is the truth, also where a person set it on MLflow's page. Its tag ``state`` and MLflow's older
"stage", for people who look for them, follow the alias.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from kd_steps.adapters.mlflow.tracking import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

State = Literal["candidate", "production"]
STATES: tuple[State, ...] = ("production", "candidate")  # a version that holds both is in production
MLFLOW_STAGE: dict[str, str] = {"candidate": "Staging", "production": "Production", "archived": "Archived"}
RETIRED = "archived"

DIGEST_TAG = "release_digest"
STATE_TAG = "state"


def holder(store: Store, name: str, state: State) -> str | None:
    """The version of ``name`` that holds the alias ``state``, or None; re-read it inside a lock before moving it."""
    version = store.client.get_registered_model(name).aliases.get(state)
    return None if version is None else str(version)


def set_state(store: Store, name: str, version: str, state: State) -> None:
    """Give a version the alias ``state``; the version that held it is archived.

    Alias first, then tags and MLflow's stage: after a kill in between, the next call completes the rest. Two callers
    at once are not refused by MLflow, the last one wins: promote within a lock.
    """
    other: State = "production" if state == "candidate" else "candidate"
    if holder(store, name, other) == version:
        store.client.delete_registered_model_alias(name, other)
    if holder(store, name, state) != version:
        store.client.set_registered_model_alias(name, state, version)
    follow_aliases(store, name)


def follow_aliases(store: Store, name: str) -> None:
    """Bring tag and stage of every version in line with the aliases."""
    for version, state in _out_of_line(store.client, name):
        number = str(version.version)
        store.client.set_model_version_tag(name, number, STATE_TAG, state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            store.client.transition_model_version_stage(name, number, MLFLOW_STAGE[state])


def differences(client: MlflowClient, name: str) -> list[str]:
    """A line for each version of a model, if there is one, whose tag or stage says another thing than its alias."""
    if not client.search_registered_models(f"name = '{name}'"):
        return []
    return [
        f"{name} version {version.version}: {f'holds the alias {state}' if state != RETIRED else 'holds no alias'}, "
        f"but its tag says {version.tags.get(STATE_TAG, 'nothing')} and its stage {version.current_stage}"
        for version, state in _out_of_line(client, name)
    ]


def _out_of_line(client: MlflowClient, name: str) -> Iterator[tuple[ModelVersion, str]]:
    """Versions of ours whose tag or stage is not what their alias says, and what it says."""
    aliases = client.get_registered_model(name).aliases
    for version in client.search_model_versions(f"name = '{name}'"):
        number, tags = str(version.version), version.tags
        held = next((state for state in STATES if str(aliases.get(state)) == number), RETIRED)
        fresh = held == RETIRED and STATE_TAG not in tags and version.current_stage == "None"  # not given one yet
        if (
            DIGEST_TAG in tags
            and not fresh
            and (tags.get(STATE_TAG), version.current_stage) != (held, MLFLOW_STAGE[held])
        ):
            yield version, held
