"""A training is done once: gone on with after a kill at any point, handed over once finished, else done anew."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stage_deps import imported_files

from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.jobs.resumable import sources_of

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
TRAINING = """
import os, signal, sys
from pathlib import Path

from kd_steps.adapters.sidecar import write_sidecar
from kd_steps.edge.contract import PreprocessingContract
from kd_steps.jobs.resumable import train_once

folder, seed, deadly = Path("student"), int(sys.argv[1]), sys.argv[2]

def die_at(point):
    if point == deadly:
        os.kill(os.getpid(), signal.SIGKILL)

def train():
    kept = folder / "resume/epoch"
    kept.parent.mkdir(exist_ok=True)
    for epoch in range(int(kept.read_text()) if kept.exists() else 0, 3):
        with Path("trained").open("a") as log:
            print(seed, epoch, file=log)
        kept.write_text(str(epoch + 1))
        die_at(f"epoch {epoch}")
    (folder / "weights.pt").write_bytes(b"w" * seed)
    die_at("weights")
    contract = PreprocessingContract.from_dict(CONTRACT)
    write_sidecar(folder, "student", "m", ["a"], [], 1, contract, "d", {"epochs": 3}, {})
    die_at("sidecar")

print("measured:", dict(train_once(folder, {"seed": seed}, "student", "kd_steps.distill", train)))
die_at("end")
"""


@pytest.fixture
def train(tmp_path):
    """Runs the training above in a process of its own, killed at a point or not; its exit code and words."""
    from training_fixture import params_of, write_params

    from kd_steps.adapters.contract_source import current_contract

    write_params(tmp_path)
    params = params_of(tmp_path)
    contract = current_contract(params.preprocessing, params.augmentation).to_dict()

    def run(seed=1, deadly="", code=REPOSITORY):
        script = TRAINING.replace("CONTRACT", repr(contract))
        return subprocess.run(
            [sys.executable, "-c", script, str(seed), deadly],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(code)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def trained(root):
    return (root / "trained").read_text().splitlines()


@pytest.mark.parametrize("point", ["epoch 0", "epoch 2", "weights", "sidecar", "end"])
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


def test_other_code_trains_anew_what_is_finished_but_goes_on_with_what_is_not(train, tmp_path):
    """A long training may be gone on with after a mend elsewhere; a finished one is not what the new code makes."""
    change(tmp_path / "changed", "core/distill/schedule.py")
    train(deadly="epoch 1")
    assert train(code=tmp_path / "changed").returncode == 0
    assert trained(tmp_path) == ["1 0", "1 1", "1 2"]
    assert train().returncode == 0
    assert trained(tmp_path) == ["1 0", "1 1", "1 2"] * 2


def change(folder, path):
    """A copy of Retort's code with another comment in a file."""
    shutil.copytree(REPOSITORY / "kd_steps", folder / "kd_steps", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "kd_steps" / path).open("a") as source:
        source.write("# another\n")


def test_code_that_the_stage_does_not_import_does_not_count(train, tmp_path):
    change(tmp_path / "changed", "evaluate.py")
    train()
    assert "is trained already" in train(code=tmp_path / "changed").stdout
    assert len(trained(tmp_path)) == 3


@pytest.mark.parametrize("stage", ["train_teacher", "assistant", "plain_student", "distill", "few_shot"])
def test_the_code_that_counts_is_what_the_import_graph_says(stage):
    found = {path.relative_to(REPOSITORY).as_posix() for path in sources_of(f"kd_steps.{stage}")}
    assert {path for path in found if not path.endswith("__init__.py")} == set(imported_files(stage))


@pytest.mark.parametrize("harm", ["weights.pt", "sidecar.json"])
def test_a_finished_training_whose_result_is_damaged_is_done_again(train, tmp_path, harm):
    train()
    (tmp_path / "student" / harm).write_bytes(b"torn")
    assert train().returncode == 0
    assert trained(tmp_path) == ["1 0", "1 1", "1 2"] * 2
    assert json.loads((tmp_path / "student/fingerprint.json").read_text())["seed"] == 1
