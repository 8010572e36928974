"""A training is done once: gone on with after a kill at any point, handed over once finished, else done anew."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from training_fixture import params_of

from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.jobs.train import model_name

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
TRAINING = """
import os, signal, sys
from pathlib import Path

from kd_steps.edge.contract import PreprocessingContract
from kd_steps.jobs.fingerprint import Fingerprint
from kd_steps.jobs.train import Fitting, Network, train_once

folder, seed, deadly = Path("student"), int(sys.argv[1]), sys.argv[2]

def die_at(point):
    if point == deadly:
        os.kill(os.getpid(), signal.SIGKILL)

def fit():
    kept = folder / "resume/epoch"
    kept.parent.mkdir(exist_ok=True)
    for epoch in range(int(kept.read_text()) if kept.exists() else 0, 3):
        with Path("trained").open("a") as log:
            print(seed, epoch, file=log)
        kept.write_text(str(epoch + 1))
        die_at(f"epoch {epoch}")
    (folder / "weights.pt").write_bytes(b"w" * seed)
    die_at("weights")
    return {"epochs": 3}

made_of = Fingerprint(
    dataset="d", contract="c", seed=seed, classes=("a",), values={}, taught_with={}, libraries={}, recipe={}
)
network = Network("student", "m", ["a"], [], PreprocessingContract.from_dict(CONTRACT), "d")
ready = lambda: Fitting(fit, {}, 1, {})
measured = train_once(folder, made_of, network, ready)
print("measured:", dict(measured))
die_at("end")
"""


@pytest.fixture
def train(tmp_path):
    """Runs the training above in a process of its own, killed at a point or not; its exit code and words."""
    from training_fixture import write_params

    from kd_steps.adapters.contract_source import current_contract

    write_params(tmp_path)
    params = params_of(tmp_path)
    contract = current_contract(params.preprocessing, params.augmentation).to_dict()

    def run(seed=1, deadly=""):
        script = TRAINING.replace("CONTRACT", repr(contract))
        return subprocess.run(
            [sys.executable, "-c", script, str(seed), deadly],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def trained(root):
    return (root / "trained").read_text().splitlines()


@pytest.mark.parametrize("point", ["epoch 0", "epoch 2", "weights", "end"])
def test_no_epoch_is_trained_twice_wherever_the_kill_comes(train, tmp_path, point):
    assert train(deadly=point).returncode == -signal.SIGKILL
    done = train()
    assert done.returncode == 0, done.stderr
    assert "measured: {'epochs': 3}" in done.stdout
    assert ("is trained already" if point == "end" else "goes on after its last finished epoch") in done.stdout
    assert trained(tmp_path) == ["1 0", "1 1", "1 2"]
    assert {path.name for path in (tmp_path / "student").iterdir()} == {
        "weights.pt",
        "sidecar.json",
        "fingerprint.json",
    }
    assert read_sidecar(tmp_path / "student").training == {"epochs": 3}


def test_what_a_kill_left_to_clear_away_goes_with_the_next_run(train, tmp_path):
    train()
    (tmp_path / "student/resume").mkdir()
    assert train().returncode == 0
    assert not (tmp_path / "student/resume").exists()
    assert len(trained(tmp_path)) == 3


def test_another_fingerprint_starts_afresh(train, tmp_path):
    train(deadly="epoch 1")
    done = train(seed=2)
    assert "stopped here" not in done.stdout
    train(seed=1)
    assert trained(tmp_path) == ["1 0", "1 1", "2 0", "2 1", "2 2", "1 0", "1 1", "1 2"]


@pytest.mark.parametrize("harm", ["weights.pt", "sidecar.json"])
def test_a_finished_training_whose_result_is_damaged_is_done_again(train, tmp_path, harm):
    train()
    (tmp_path / "student" / harm).write_bytes(b"torn")
    assert train().returncode == 0
    assert trained(tmp_path) == ["1 0", "1 1", "1 2"] * 2
    assert json.loads((tmp_path / "student/fingerprint.json").read_text())["seed"] == 1


def test_what_another_release_finished_is_not_trained_over(train, tmp_path):
    train()
    note = tmp_path / "student/sidecar.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "schema": 2}))
    done = train()
    assert done.returncode == 1
    assert "sidecar.json: written as schema 2, this release reads schema 1" in done.stderr
    assert trained(tmp_path) == ["1 0", "1 1", "1 2"]


def test_a_note_without_a_version_is_handed_over(train, tmp_path):
    train()
    note = tmp_path / "student/sidecar.json"
    values = json.loads(note.read_text())
    del values["schema"]
    note.write_text(json.dumps(values))
    before = note.read_bytes()
    assert "is trained already" in train().stdout
    assert (trained(tmp_path), note.read_bytes()) == (["1 0", "1 1", "1 2"], before)


def test_names_for_a_person(training_project):
    section = params_of(training_project).train_teacher
    assert model_name(section) == "yolo11 (depth 0.25, width 0.125)"
    assert model_name(section.model_copy(update={"model": "yolo11s.yaml"})) == "yolo11s"
    assert model_name(section, "models:/x@y") == "models:/x@y"
