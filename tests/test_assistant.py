"""Stage `assistant`: a chain of two, each taught by the one before it, and the student by the last."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
from cache_tool import run
from training_fixture import (
    SMALL,
    TRAINING,
    enter_again,
    kill_when,
    params_of,
    run_stage_in,
    stage_environment,
    tree_digest,
    write_model,
    write_params,
    write_training_project,
)

from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.artifacts import read_json
from kd_steps.jobs.chain import params_of_assistant
from kd_steps.params import load_params
from kd_steps.params.assistant import AssistantStep

pytestmark = pytest.mark.slow

CHAIN = {
    "wide": {"taught_by": "teacher", "model": {**SMALL, "width_multiple": 0.14}, "epochs": 2},
    "thin": {"taught_by": "assistants/wide", "model": SMALL, "epochs": 1},
}
SECTIONS = {
    "assistant": {"chain": CHAIN},
    "distill": {**TRAINING, "close_mosaic_fraction": 0.5, "teacher": "assistants/thin"},
}


def run_assistant(root, name):
    command = [sys.executable, "-m", "kd_steps.assistant", *([name] if name else [])]
    return subprocess.run(command, cwd=root, env=stage_environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A project whose two assistants are trained; read-only."""
    root = write_training_project(tmp_path_factory.mktemp("chain"), **SECTIONS)
    write_model(root, "teacher")
    for name in CHAIN:
        done = run_assistant(root, name)
        assert done.returncode == 0, done.stderr
        assert "capacity: the student has" in done.stdout
    return root


def test_an_assistant_may_start_from_pinned_weights(taught):
    step = {"taught_by": "teacher", "model": "mine.pt", "weights_sha256": "a" * 64, "epochs": 1}
    params = load_params(taught / "params.yaml")
    chain = params.assistant.model_copy(update={"chain": {"mine": AssistantStep(**step)}})
    told = params_of_assistant(params.model_copy(update={"assistant": chain}), "mine").distill
    assert (told.model, told.weights_sha256, told.epochs) == ("mine.pt", "a" * 64, 1)


def test_each_is_taught_by_the_one_before_it_from_a_cache_of_its_own(taught):
    teacher = read_sidecar(taught / "models/teacher")
    wide, thin = (read_sidecar(taught / "models/assistants" / name) for name in CHAIN)
    assert (wide.kind, thin.kind) == ("assistant", "assistant")
    assert wide.lineage["teacher_sha256"] == teacher.sha256
    assert thin.lineage["teacher_sha256"] == wide.sha256
    assert (wide.lineage["taught_by"], thin.lineage["taught_by"]) == ("teacher", "assistants/wide")
    assert wide.parameters > thin.parameters
    for name, views in (("wide", 16), ("thin", 8)):  # 8 pictures; two epochs show two views, one epoch one
        found = read_json(taught / f"metrics/assistants/{name}.json")
        assert found["cache"]["teacher_forwards"] == found["cache"]["views"] == views
        assert found["epochs"] == CHAIN[name]["epochs"]
        plotted = (taught / f"plots/assistants/{name}.csv").read_text().splitlines()
        assert plotted[0] == "epoch,loss,value"
        assert any(line.startswith("1,kd_class,") for line in plotted)
    header = read_json(taught / "data/assistant_caches/thin/header.json")
    assert header["teacher_sha256"] == wide.sha256


def test_an_assistants_cache_can_be_looked_at(taught, monkeypatch, capsys):
    monkeypatch.chdir(taught)
    (taught / "dvc.yaml").touch()
    for name, teacher, views in (("wide", "models/teacher", 16), ("thin", "models/assistants/wide", 8)):
        code, said, _ = run(capsys, "verify", "--sample", "3", "--assistant", name)
        assert (code, said.splitlines()[-1]) == (0, "exact")
        assert f"data/assistant_caches/{name}: " in said
        assert f"answered again by {teacher}" in said
        command = [sys.executable, "-m", "flows.cli", "cache", "info", "--assistant", name, "--json"]
        told = json.loads(subprocess.run(command, env=stage_environment(), capture_output=True, check=True).stdout)
        assert (told["cache"], told["views"]) == (f"data/assistant_caches/{name}", views)
    for command in ("verify", "info"):
        code, _, said = run(capsys, command, "--assistant", "thick")
        assert (code, said) == (1, "error: assistant.chain has no 'thick'; there are: wide, thin\n")


def test_the_last_one_teaches_the_student(taught, tmp_path):
    root = shutil.copytree(taught, tmp_path / "project")
    for stage in ("cache_logits", "distill"):
        done = run_stage_in(root, stage)
        assert done.returncode == 0, done.stderr
    thin, student = read_sidecar(root / "models/assistants/thin"), read_sidecar(root / "models/student")
    assert read_json(root / "data/cache/header.json")["teacher_sha256"] == thin.sha256
    assert student.lineage["teacher_sha256"] == thin.sha256
    assert read_json(root / "metrics/teacher_choice.json")["teacher"]["taught_by"] == "assistants/thin"
    taught_by = [read_sidecar(root / f"models/{each['name']}") for each in student.lineage["chain"]]
    assert [sidecar.kind for sidecar in taught_by] == ["teacher", "assistant", "assistant"]
    for told, sidecar in zip(student.lineage["chain"], taught_by, strict=True):
        assert told["model"] == sidecar.model
        assert told["parameters"] == sidecar.parameters
        assert told["val_map50_95"] == sidecar.training.get("val_map50_95")
    assert isinstance(student.lineage["chain"][-1]["val_map50_95"], float)
    assert "teacher choice, warn: capacity: the student has 1.00 of its teacher's weights" in done.stdout


def test_a_killed_assistant_asks_nothing_again(taught, tmp_path):
    root = tmp_path / "killed"
    shutil.copytree(taught, root, ignore=shutil.ignore_patterns("wide", "wide.json"))
    assert kill_when(root, "assistant", "models/assistants/wide/resume/state.pt", arguments=["wide"]) == signal.SIGKILL
    before = tree_digest(root / "data/assistant_caches/wide")
    done = run_assistant(root, "wide")
    assert done.returncode == 0, done.stderr
    assert "data/assistant_caches/wide: resumed" in done.stdout
    assert "the training of this assistant was stopped here; it goes on after its last finished epoch" in done.stdout
    assert json.loads((root / "metrics/assistants/wide.json").read_text())["cache"]["teacher_forwards"] == 0
    assert tree_digest(root / "data/assistant_caches/wide") == before


def test_a_finished_assistant_is_handed_over_without_a_network(taught, tmp_path):
    root = shutil.copytree(taught, tmp_path / "again")
    before = {part: tree_digest(root / part) for part in ("models", "data", "plots")}
    done = enter_again(root, "assistant", "wide")
    assert done.returncode == 0, done.stderr
    assert "this assistant is trained already" in done.stdout
    assert "capacity: the student has" in done.stdout
    assert read_json(root / "metrics/assistants/wide.json")["cache"]["teacher_forwards"] == 0
    assert {part: tree_digest(root / part) for part in before} == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "error: which assistant? `python -m kd_steps.assistant <name>`"),
        ("m", "error: assistant.chain has no 'm'; there are: wide, thin"),
    ],
)
def test_a_name_that_is_none_is_told(taught, name, message):
    done = run_assistant(taught, name)
    assert done.returncode == 1
    assert message in done.stderr


def test_only_the_network_and_the_epochs_are_an_assistants_own(tmp_path):
    write_params(tmp_path, **SECTIONS)
    params = params_of(tmp_path)
    own = params_of_assistant(params, "wide").distill
    changed = {key for key, value in own if value != getattr(params.distill, key)}
    assert changed == {"teacher", "model"}
    assert own.model.width_multiple == 0.14
    assert params_of_assistant(params, "thin").distill.epochs == 1
