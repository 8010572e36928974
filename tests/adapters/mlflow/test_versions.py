import pytest

from kd_steps.adapters.mlflow import tracking, versions
from kd_steps.adapters.mlflow.tracking import StageRecord, TrackingError


@pytest.fixture(scope="module")
def run_id(store):
    return tracking.log_result(store, "0" * 64, {}, [StageRecord("export")])["export"]


@pytest.fixture
def engine(tmp_path):
    folder = tmp_path / "onnx-fp32"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    return folder


def test_one_version_a_digest_and_the_newest_result_is_the_candidate(store, run_id, engine):
    first = versions.register_engine(store, "one", run_id, engine, {"release_digest": "a" * 64})
    second = versions.register_engine(store, "one", run_id, engine, {"release_digest": "b" * 64})
    assert (first.created, second.created) == (True, True)
    assert versions.holder(store, "one", "candidate") == second.version
    old = store.client.get_model_version("one", first.version)
    assert (old.tags["state"], old.current_stage) == ("archived", "Archived")
    again = versions.register_engine(store, "one", run_id, engine, {"release_digest": "a" * 64})
    assert (again.version, again.created) == (first.version, False)
    assert versions.holder(store, "one", "candidate") == first.version


def test_promotion_moves_alias_tag_and_stage_together(store, run_id, engine):
    first = versions.register_engine(store, "two", run_id, engine, {"release_digest": "a" * 64})
    versions.set_state(store, "two", first.version, "production")
    assert versions.holder(store, "two", "production") == first.version
    assert versions.holder(store, "two", "candidate") is None
    again = versions.register_engine(store, "two", run_id, engine, {"release_digest": "a" * 64})
    assert not again.created
    found = store.client.get_model_version("two", first.version)
    assert (found.tags["state"], found.current_stage) == ("production", "Production")  # not demoted
    second = versions.register_engine(store, "two", run_id, engine, {"release_digest": "b" * 64})
    versions.set_state(store, "two", second.version, "production")
    assert store.client.get_model_version("two", first.version).current_stage == "Archived"


def test_an_alias_that_a_person_set_stays(store, run_id, engine):
    first = versions.register_engine(store, "three", run_id, engine, {"release_digest": "a" * 64})
    store.client.set_registered_model_alias("three", "production", first.version)  # as MLflow's page does
    versions.register_engine(store, "three", run_id, engine, {"release_digest": "a" * 64})
    assert versions.holder(store, "three", "production") == first.version
    second = versions.register_engine(store, "three", run_id, engine, {"release_digest": "b" * 64})
    assert versions.holder(store, "three", "candidate") == second.version
    kept = store.client.get_model_version("three", first.version)
    assert (kept.tags["state"], kept.current_stage) == ("production", "Production")


def test_a_digest_that_is_none_is_refused(store):
    with pytest.raises(TrackingError, match="not a sha256"):
        versions.version_of_digest(store, "one", "x' or '1' = '1")
