"""`retort doctor` as a person runs it, on a project whose parts are damaged one after another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from params_file import written

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SECRET = "s3cr3t-word"


def doctor(root, **more):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "flows.cli", "doctor"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_doctor_tells_faults_mends_and_the_next_step(tmp_path):
    written(tmp_path, {})
    (tmp_path / "a").touch()
    (tmp_path / "dvc.yaml").write_text("stages:\n  prepare:\n    cmd: cp a b\n    deps: [a]\n    outs: [b]\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    well = doctor(tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    assert well.returncode == 0, well.stdout + well.stderr
    for line in ("ok    params.yaml: product retort", "ok    training: on", "ok    engine onnx-fp32", "ok    MLflow"):
        assert line in well.stdout
    assert "next: `dvc repro` or `retort run`; the first stage that is out of date is prepare" in well.stdout
    assert not (tmp_path / "mlflow.db").exists(), "nothing is changed"

    (tmp_path / "params.yaml").write_text("seed: [0\n")
    ill = doctor(tmp_path, MLFLOW_TRACKING_URI=f"http://ann:{SECRET}@127.0.0.1:9")
    assert ill.returncode == 1
    assert "FAULT params.yaml: " in ill.stdout
    assert "FAULT MLflow: MLflow at http://127.0.0.1:9 cannot be used" in ill.stdout
    assert SECRET not in ill.stdout + ill.stderr
    assert "Traceback" not in ill.stdout + ill.stderr
