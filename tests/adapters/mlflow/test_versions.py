import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kd_steps.adapters.mlflow import aliases, runs, versions
from kd_steps.adapters.mlflow.faults import TrackingError
from kd_steps.adapters.mlflow.runs import StageRecord


@pytest.fixture(scope="module")
def run_id(store):
    return runs.log_result(store, "0" * 64, {}, [StageRecord("export")]).runs["export"]


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
    assert aliases.holder(store, "one", "candidate") == second.version
    old = store.client.get_model_version("one", first.version)
    assert (old.tags["state"], old.current_stage) == ("archived", "Archived")
    again = versions.register_engine(store, "one", run_id, engine, {"release_digest": "a" * 64})
    assert (again.version, again.created) == (first.version, False)
    assert aliases.holder(store, "one", "candidate") == first.version


def test_promotion_moves_alias_tag_and_stage_together(store, run_id, engine):
    first = versions.register_engine(store, "two", run_id, engine, {"release_digest": "a" * 64})
    aliases.set_state(store, "two", first.version, "production")
    assert aliases.holder(store, "two", "production") == first.version
    assert aliases.holder(store, "two", "candidate") is None
    again = versions.register_engine(store, "two", run_id, engine, {"release_digest": "a" * 64})
    assert not again.created
    found = store.client.get_model_version("two", first.version)
    assert (found.tags["state"], found.current_stage) == ("production", "Production")  # not demoted
    second = versions.register_engine(store, "two", run_id, engine, {"release_digest": "b" * 64})
    aliases.set_state(store, "two", second.version, "production")
    assert store.client.get_model_version("two", first.version).current_stage == "Archived"


def test_an_alias_that_a_person_set_stays(store, run_id, engine):
    first = versions.register_engine(store, "three", run_id, engine, {"release_digest": "a" * 64})
    store.client.set_registered_model_alias("three", "production", first.version)  # as MLflow's page does
    versions.register_engine(store, "three", run_id, engine, {"release_digest": "a" * 64})
    assert aliases.holder(store, "three", "production") == first.version
    second = versions.register_engine(store, "three", run_id, engine, {"release_digest": "b" * 64})
    assert aliases.holder(store, "three", "candidate") == second.version
    kept = store.client.get_model_version("three", first.version)
    assert (kept.tags["state"], kept.current_stage) == ("production", "Production")


def test_a_digest_that_is_none_is_refused(store):
    with pytest.raises(TrackingError, match="not a sha256"):
        versions.versions_of_digest(store, "one", "x' or '1' = '1")


def versions_of(store, name):
    return sorted(int(found.version) for found in store.client.search_model_versions(f"name = '{name}'"))


def make_version(store, name, run_id, digest):
    source = f"runs:/{run_id}/engines/onnx-fp32"
    return store.client.create_model_version(name, source, run_id, tags={"release_digest": digest}).version


def test_of_several_versions_of_a_digest_the_lowest_stays_and_takes_the_aliases(store, run_id, engine):
    """As a late answer of a slow server left them."""
    first = versions.register_engine(store, "twins", run_id, engine, {"release_digest": "a" * 64})
    second, third = (make_version(store, "twins", run_id, "a" * 64) for _ in range(2))
    other = make_version(store, "twins", run_id, "b" * 64)
    store.client.set_registered_model_alias("twins", "production", third)
    store.client.set_registered_model_alias("twins", "line-2", second)
    again = versions.register_engine(store, "twins", run_id, engine, {"release_digest": "a" * 64})
    assert (again.version, again.created) == (first.version, False)
    assert versions_of(store, "twins") == [int(first.version), int(other)]
    assert aliases.holder(store, "twins", "production") == first.version
    assert store.client.get_registered_model("twins").aliases["line-2"] == int(first.version)
    newest = make_version(store, "twins", run_id, "c" * 64)
    assert int(newest) == int(other) + 1, "the numbers of removed versions are not given out again"


@pytest.mark.parametrize("fault", ["all gone", "changed", "one more"])
def test_a_version_counts_when_its_files_are_there(store, engine, fault):
    name, digest = fault.replace(" ", "-"), "a" * 64
    run_id = runs.log_result(store, fault[0].encode().hex() * 32, {}, [StageRecord("export")]).runs["export"]
    first = versions.register_engine(store, name, run_id, engine, {"release_digest": digest})
    kept = Path(urlsplit(store.client.get_run(run_id).info.artifact_uri).path)
    if fault == "all gone":
        shutil.rmtree(kept)
    elif fault == "changed":
        (kept / "engines/onnx-fp32/model.onnx").write_bytes(b"weightz")
    else:
        (kept / "engines/onnx-fp32/notes.txt").write_text("a device refuses what the manifest does not name")
    again = versions.register_engine(store, name, run_id, engine, {"release_digest": digest})
    assert (again.version, again.created, again.put_back) == (first.version, False, True)
    assert [file.name for file in (kept / "engines/onnx-fp32").iterdir()] == ["model.onnx"]
    assert (kept / "engines/onnx-fp32/model.onnx").read_bytes() == b"weights"
    assert not versions.register_engine(store, name, run_id, engine, {"release_digest": digest}).put_back


def test_a_release_that_was_made_elsewhere_with_other_bytes_stays(store, run_id, engine):
    def register():
        return versions.register_engine(
            store,
            "elsewhere",
            run_id,
            engine,
            {"release_digest": "a" * 64},
            lambda kept: (kept / "model.onnx").exists(),
        )

    register()
    (engine / "model.onnx").write_bytes(b"the same weights in other bytes")
    assert not register().put_back


def test_a_version_whose_run_is_in_the_bin_or_gone_is_mended(store, engine):
    old, new = (runs.log_result(store, c * 64, {}, [StageRecord("export")]).runs["export"] for c in "89")
    first = versions.register_engine(store, "runless", old, engine, {"release_digest": "a" * 64})
    store.client.delete_run(old)
    versions.register_engine(store, "runless", new, engine, {"release_digest": "a" * 64})
    assert store.client.get_run(old).info.lifecycle_stage == "active"
    store.client.set_registered_model_alias("runless", "production", first.version)
    store.client.delete_run(old)
    store.client._tracking_client.store._hard_delete_run(old)  # as `mlflow gc` does
    made = versions.register_engine(store, "runless", new, engine, {"release_digest": "a" * 64})
    assert made.created
    assert versions_of(store, "runless") == [int(made.version)]
    assert aliases.holder(store, "runless", "production") == made.version
