"""A project with its own store is moved or copied: runs, versions and weights are found where they lie now."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from kd_steps.adapters.mlflow import moved, runs, versions
from kd_steps.adapters.mlflow.faults import TrackingError
from kd_steps.adapters.mlflow.runs import StageRecord
from kd_steps.adapters.mlflow.tracking import open_store

TAGS = {"release_digest": "a" * 64}


@pytest.fixture(scope="module", autouse=True)
def _own_store():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in a folder whose name must be quoted in an address, with a run, a version and its files."""
    root = tmp_path_factory.mktemp("first") / "a board's ü"
    (root / "onnx").mkdir(parents=True)
    (root / "onnx/model.onnx").write_text("weights")
    register(root)
    return root


@pytest.fixture
def away(project):
    """The project's folder is gone from its first place while a test runs."""
    hidden = project.with_name("away")
    project.rename(hidden)
    yield hidden
    hidden.rename(project)


def register(root: Path):
    """As a process of its own does, which knows no run of a project's first place."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()
    with open_store(root, "retort") as store:
        logged = runs.log_result(store, "a" * 64, {}, [StageRecord("evaluate", {"path": str(root / "data")})])
        return versions.register_engine(store, "retort-onnx", logged.runs["evaluate"], root / "onnx", TAGS)


def places(database: Path) -> str:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return "\n".join(connection.iterdump())


def test_a_moved_project_goes_on(project, away, tmp_path, caplog):
    there = shutil.copytree(away, tmp_path / "moved here")
    before = places(away / "mlflow.db")
    again = register(there)
    assert (again.version, again.created, again.put_back) == ("1", False, False)
    (line,) = [record.getMessage() for record in caplog.records if record.name.endswith("moved")]
    assert line.startswith(f"{there / 'mlflow.db'} named files in {project}; ")
    assert places(there / "mlflow.db.before-move") == before
    told = places(there / "mlflow.db")
    assert project.as_uri() not in told
    assert f"{project}/mlruns" not in told, "of MLflow's own experiment"
    assert f"{project}/data".replace("'", "''") in told, "a parameter says what was, not what is"
    with open_store(there, "retort") as store:
        run = store.client.search_runs([store.experiment_id], "tags.pipeline_stage = 'evaluate'")[0].info
        assert run.artifact_uri.startswith((there / "mlartifacts").as_uri())
        fetched = store.client.download_artifacts(run.run_id, "engines/onnx/model.onnx")
    assert Path(fetched).read_text() == "weights"
    assert [r for r in caplog.records if r.name.endswith("moved")][1:] == [], "once"


def test_a_copy_and_the_first_one_each_have_their_own(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "copy")
    assert not register(copy).created
    assert not register(project).created
    assert project.as_uri() not in places(copy / "mlflow.db")
    assert copy.as_uri() not in places(project / "mlflow.db")
    assert not (project / moved.BACKUP).exists()


def test_files_that_did_not_come_along_are_asked_for(project, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(project / "mlflow.db", there)
    shutil.copytree(project / "onnx", there / "onnx")
    before = (there / "mlflow.db").read_bytes()
    told = rf"keeps its files in .*{project.name}/mlartifacts, .*Copy {project}/mlartifacts to {there}/mlartifacts"
    with pytest.raises(TrackingError, match=told):
        register(there)
    assert (there / "mlflow.db").read_bytes() == before
    shutil.copytree(project / "mlartifacts", there / "mlartifacts")
    assert not register(there).created


def test_files_that_are_lost_are_put_back(away, tmp_path):
    there = shutil.copytree(away, tmp_path / "there")
    shutil.rmtree(there / "mlartifacts")
    with pytest.raises(TrackingError, match=r"make .* an empty folder"):
        register(there)
    (there / "mlartifacts").mkdir()
    again = register(there)
    assert (again.version, again.created, again.put_back) == ("1", False, True)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_database_that_two_folders_share_is_left_alone(project, tmp_path, kind):
    there = shutil.copytree(project, tmp_path / "there")
    (there / "mlflow.db").unlink()
    if kind == "hard":
        (there / "mlflow.db").hardlink_to(project / "mlflow.db")
    else:
        (there / "mlflow.db").symlink_to(project / "mlflow.db")
    with pytest.raises(TrackingError, match=r"is a link, or linked from another folder"):
        register(there)
    assert not register(project).created


def test_a_store_that_the_user_names_is_left_alone(project, tmp_path, monkeypatch):
    copy = shutil.copytree(project, tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'mlflow.db'}")
    before = places(copy / "mlflow.db")
    assert not register(copy).created
    assert places(copy / "mlflow.db") == before


def test_a_store_that_another_process_writes_is_named(project, tmp_path):
    there = shutil.copytree(project, tmp_path / "there")
    with contextlib.closing(sqlite3.connect(there / "mlflow.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TrackingError, match=r"could not be changed \(database is locked\)"):
            moved.move_along(there)
    moved.move_along(there)
    assert project.as_uri() not in places(there / "mlflow.db")
