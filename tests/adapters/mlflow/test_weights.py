"""Weights from the registry: a model's own, and those that an engine in production was built from."""

import hashlib
import shutil

import pytest

from kd_steps.adapters.mlflow import aliases, runs, tracking, versions
from kd_steps.adapters.mlflow.faults import TrackingError
from kd_steps.adapters.mlflow.runs import StageRecord
from kd_steps.adapters.mlflow.weights import download_weights
from kd_steps.jobs.weight_files import weight_file

WEIGHTS = b"the weights of a student"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose store has engines in production, and a model that is a weight file."""
    root = tmp_path_factory.mktemp("registry")
    for name, content in {
        "few_shot/weights.pt": WEIGHTS,
        "engine/model.onnx": b"onnx",
        "own/teacher.pt": b"pt",
    }.items():
        path = root / name
        path.parent.mkdir()
        path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with tracking.open_store(root, "test") as store:
            for name, number, files, told in (
                ("kept", 1, (root / "few_shot/weights.pt",), SHA256),
                ("older", 2, (), SHA256),
                ("other", 3, (root / "few_shot/weights.pt",), "0" * 64),
            ):
                records = [StageRecord("export"), StageRecord("few_shot", files=files)]
                export = runs.log_result(store, str(number) * 64, {}, records).runs["export"]
                tags = {"release_digest": str(number) * 64, "student_sha256": told}
                made = versions.register_engine(store, name, export, root / "engine", tags)
                aliases.set_state(store, name, made.version, "production")
            versions.register_engine(store, "weights", export, root / "own", {"release_digest": "4" * 64})
    return root


@pytest.mark.parametrize("uri", ["models:/kept@production", "models:/kept/1"])
def test_an_engine_gives_the_weights_it_was_built_from(project, tmp_path, monkeypatch, uri):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = download_weights(project, uri, tmp_path)
    assert found.read_bytes() == WEIGHTS
    assert found.is_relative_to(tmp_path)


def test_weights_of_two_models_do_not_take_each_others_place(project, tmp_path, monkeypatch):
    """All engines' weights have one file name; and what an alias named last time must not lie beside."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'mlflow.db'}")
    first, second = weight_file("models:/kept@production"), weight_file("models:/weights@candidate")
    assert first.read_bytes() == WEIGHTS
    assert second.read_bytes() == b"pt"
    (second.parent / "older.pt").write_bytes(b"old")
    assert weight_file("models:/weights@candidate").read_bytes() == b"pt"


def test_a_model_that_is_a_weight_file_gives_it(project, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert download_weights(project, "models:/weights@candidate", tmp_path).read_bytes() == b"pt"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "models:/older@production",
            r"its runs keep no weights\.pt: .*removed from MLflow .*older Retort",
        ),
        ("models:/other@production", f"its run have sha256 {SHA256}, it was built from 0000"),
        ("models:/kept@staging", "staging"),
        ("models:/nobody@production", "nobody"),
    ],
)
def test_what_cannot_be_had_is_told(project, tmp_path, monkeypatch, uri, message):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match=message):
        download_weights(project, uri, tmp_path)
