"""A training killed in the middle of an epoch, resumed, and exported as the kill left it."""

import csv
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from trainer_fixture import DeadlyAnswers, train_in_own_process, training_of

from kd_steps.adapters.files import sha256_of

pytestmark = pytest.mark.slow

EPOCHS = 4


@pytest.fixture(scope="module")
def whole(training_project, tmp_path_factory):
    """A training that nothing interrupted: its run and its live and averaged weights."""
    return training_of(training_project, tmp_path_factory.mktemp("whole"), DeadlyAnswers, epochs=EPOCHS)


def ended(run):
    """Train, and the live and averaged weights at the end."""
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    trainer = RetortTrainer(run)
    trainer.train()
    return trainer.model.state_dict(), trainer.ema.ema.state_dict()


def same(mine, others):
    return mine.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in mine.items())


@pytest.fixture(scope="module")
def killed(whole, tmp_path_factory):
    """The same training, killed (SIGKILL) in the middle of its third epoch: eight pictures an epoch, the 21st."""
    folder = tmp_path_factory.mktemp("killed")
    run = replace(whole, folder=folder)
    whole.soft_loss.cached.deadly = 2 * 8 + 5
    end = train_in_own_process(run, folder)
    whole.soft_loss.cached.deadly = None
    assert end.returncode == -signal.SIGKILL, end.stderr
    assert (folder / "run/results.csv").read_text().count("\n") == 3, "two epochs were finished"
    return run


def test_an_interrupted_student_can_be_exported_without_retort(killed):
    """Ultralytics alone loads the checkpoint and makes an ONNX file of it."""
    program = """
import sys
sys.modules["kd_steps"] = None  # importing it fails
from ultralytics import YOLO
print(YOLO(sys.argv[1]).export(format="onnx", imgsz=64, simplify=False))
"""
    path = killed.folder / "resume/last.pt"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.with_suffix(".onnx").stat().st_size > 10_000
    path.with_suffix(".onnx").unlink()


@pytest.fixture(scope="module")
def expected(whole):
    return ended(whole)


def test_a_resumed_training_ends_with_the_same_weights(killed, expected, tmp_path):
    run = copy_of(killed, tmp_path)
    assert sorted(path.name for path in (run.folder / "resume").iterdir()) == ["best.pt", "last.pt", "state.pt"]
    live, average = ended(run)
    assert same(live, expected[0])
    assert same(average, expected[1])


def test_a_resumed_training_leaves_the_same_file_in_another_folder(whole, killed, expected, tmp_path):
    """So that nothing which depends on the weights is made again."""
    from kd_steps.adapters.yolo.models import load_weights, save_weights
    from kd_steps.adapters.yolo.train.training import train

    run = copy_of(killed, tmp_path)
    digests = set()
    for one in (whole, run):
        save_weights(train(one), one.folder / "weights.pt")
        digest = sha256_of(one.folder / "weights.pt")
        digests.add(digest)
        again = load_weights(one.folder / "weights.pt", digest)
        save_weights(again, one.folder / "again.pt")
        digests.add(sha256_of(one.folder / "again.pt"))
    assert len(digests) == 1


def test_a_kill_between_the_two_files_costs_an_epoch_and_nothing_else(whole, killed, expected, tmp_path):
    """`last.pt` is then of the second epoch and `state.pt` of the first."""
    other = replace(whole, folder=tmp_path / "first")
    answers = other.soft_loss.cached
    answers.asked.clear()
    answers.stopping = 8 + 3
    with pytest.raises(KeyboardInterrupt):
        ended(other)
    answers.stopping = None
    run = copy_of(killed, tmp_path / "second")
    shutil.copyfile(other.folder / "resume/state.pt", run.folder / "resume/state.pt")
    answers.asked.clear()
    live, average = ended(run)
    assert len(answers.asked) == 3 * 8, "the second epoch is done again"
    assert same(live, expected[0])
    assert same(average, expected[1])


def test_a_kill_between_the_two_files_of_the_first_epoch_begins_anew(killed, expected, tmp_path):
    """`last.pt` alone is rounded and averaged: a training that went on from it would be another one."""
    run = copy_of(killed, tmp_path)
    (run.folder / "resume/state.pt").unlink()
    live, average = ended(run)
    assert same(live, expected[0])
    assert same(average, expected[1])


def test_the_clock_goes_on(killed, tmp_path):
    run = copy_of(killed, tmp_path)
    path = run.folder / "resume/state.pt"
    torch.save({**torch.load(path, weights_only=True), "seconds": 1000.0}, path)
    ended(run)
    with (run.folder / "run/results.csv").open() as stream:
        times = [float(row["time"]) for row in csv.DictReader(stream, skipinitialspace=True)]
    assert 1000 < times[-1] < 1000 + times[0] * 20


def test_precision_is_todays_and_a_loader_built_anew_goes_on_with_the_epoch(killed, tmp_path):
    """Ultralytics takes ``amp`` from the checkpoint, and builds its loader anew where a GPU's memory ran out."""
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    run = copy_of(killed, tmp_path)
    path = run.folder / "resume/last.pt"
    checkpoint = torch.load(path, weights_only=False)
    torch.save({**checkpoint, "train_args": {**checkpoint["train_args"], "amp": True}}, path)
    trainer = RetortTrainer(run)
    assert trainer.args.amp is False
    trainer._setup_train()
    trainer._build_train_pipeline()
    assert next(iter(trainer.train_loader.sampler))[0] == trainer.start_epoch == 2


def copy_of(run, folder):
    shutil.copytree(run.folder, folder / "copy")
    return replace(run, folder=folder / "copy")
