"""The alias is the truth; tag and stage follow it, whoever moved it."""

import pytest

from kd_steps.adapters.mlflow import aliases, runs, versions
from kd_steps.adapters.mlflow.runs import StageRecord


@pytest.fixture
def two(store, tmp_path):
    """Two versions of a model of its own: the first in production before, the second now."""
    name = tmp_path.name
    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "model.onnx").write_text("weights")
    run_id = runs.log_result(store, "0" * 64, {}, [StageRecord("export")]).runs["export"]

    def register(digest):
        return versions.register_engine(store, name, run_id, folder, {"release_digest": digest * 64}).version

    first, second = register("a"), register("b")
    for version in (first, second):
        aliases.set_state(store, name, version, "production")
    return name, first, second, register


def told(store, name, version):
    found = store.client.get_model_version(name, version)
    return found.tags["state"], found.current_stage


def test_an_alias_that_a_person_put_back_is_followed(store, two):
    name, first, second, register = two
    store.client.set_registered_model_alias(name, "production", first)  # as MLflow's page does
    assert aliases.differences(store.client, name) == [
        f"{name} version {second}: holds no alias, but its tag says production and its stage Production",
        f"{name} version {first}: holds the alias production, but its tag says archived and its stage Archived",
    ]
    third = register("c")
    assert aliases.differences(store.client, name) == []
    assert told(store, name, first) == ("production", "Production")
    assert told(store, name, second) == ("archived", "Archived")
    assert told(store, name, third) == ("candidate", "Staging")


def test_a_stage_that_a_person_moved_comes_back(store, two):
    name, _, second, register = two
    store.client.transition_model_version_stage(name, second, "Archived")
    assert len(aliases.differences(store.client, name)) == 1
    assert register("b") == second
    assert told(store, name, second) == ("production", "Production")
    assert aliases.holder(store, name, "candidate") is None


def test_versions_of_others_are_left_alone(store, two):
    name, *_ = two
    source = store.client.get_model_version(name, "1").source
    theirs = store.client.create_model_version(name, source, tags={"state": "production"}).version
    assert aliases.differences(store.client, name) == []
    aliases.follow_aliases(store, name)
    assert store.client.get_model_version(name, theirs).tags["state"] == "production"
