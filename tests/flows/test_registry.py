"""What the registry says, asked beside: differences, silence and faults each in a line."""

import os
import sys
from pathlib import Path

import pytest
from dossier_fixture import build_project

from flows.registry import asked
from kd_steps.adapters.mlflow import aliases, runs, versions
from kd_steps.adapters.mlflow.runs import StageRecord
from kd_steps.adapters.mlflow.tracking import open_store

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY)]))


def answer(root, **more):
    with asked(root, deadline_s=100, **more) as registry:
        return registry()


def test_a_project_without_a_store_is_not_asked(tmp_path):
    assert answer(tmp_path, command=("false",)) == ""


def test_where_tag_and_stage_contradict_the_alias(tmp_path):
    build_project(tmp_path)
    folder = tmp_path / "models/releases/onnx-fp32"
    with open_store(tmp_path, "retort") as store:
        run_id = runs.log_result(store, "0" * 64, {}, [StageRecord("export")]).runs["export"]
        made = versions.register_engine(store, "retort-onnx-fp32", run_id, folder, {"release_digest": "a" * 64})
        assert answer(tmp_path) == ""
        store.client.set_registered_model_alias("retort-onnx-fp32", "production", made.version)
    first, mend = answer(tmp_path).splitlines()
    assert first == (
        "Registry: retort-onnx-fp32 version 1: holds the alias production, but its tag says candidate and its stage "
        "Staging"
    )
    assert mend == "Registry: `dvc repro -f -s register` lets them follow the aliases"
    with open_store(tmp_path, "retort") as store:
        aliases.follow_aliases(store, "retort-onnx-fp32")
    assert answer(tmp_path) == ""


def test_silence_and_faults_are_a_line(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    sleeps = (sys.executable, "-c", "import time; time.sleep(60)")
    with asked(tmp_path, sleeps, deadline_s=1) as registry:
        assert registry() == "Registry: MLflow did not answer within 1 s"
    assert answer(tmp_path, command=(sys.executable, "-c", "raise SystemExit('no')")) == (
        "Registry: it could not be asked: no"
    )
    build_project(tmp_path)
    assert "mlflow.db cannot be used: " in answer(tmp_path)
    assert len(answer(tmp_path).splitlines()) == 1


def test_a_question_that_nobody_waits_for_ends(tmp_path):
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(RuntimeError), asked(tmp_path, (sys.executable, "-c", "import time; time.sleep(60)")):
        raise RuntimeError
