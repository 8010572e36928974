"""One training in two processes: both end with the same weights, each sees its own pictures, one writes."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial

import psutil
import pytest
import torch
from trainer_fixture import PoisonedAnswers, rows_of, stop_second_process, train_and_tell, training_of
from training_fixture import (
    decided_model,
    run_stage_in,
    stage_command,
    stage_environment,
    write_model,
    write_training_project,
)

from kd_steps.core.distill.schedule import EpochWeights
from kd_steps.core.distill.terms import TermWeights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(training_project, tmp_path_factory):
    """A training on the teacher's calibrated terms alone by two processes (gloo), and what each told at its end."""
    from kd_steps.adapters.yolo.models import neck_channels
    from kd_steps.adapters.yolo.train.distributed import launch

    folder = tmp_path_factory.mktemp("pair")
    soft = EpochWeights("soft", 1.0, 0.0, 2.0)
    run = training_of(training_project, folder / "run", weights=soft, options={"epochs": 2}, processes=2)
    terms = TermWeights(class_weight=1.0, box_weight=1.0, attention_weight=1.0, feature_weight=1.0)
    calibrated = replace(
        run.soft_loss,
        terms=terms,
        teacher_channels=neck_channels(decided_model(9)),
        calibrate_batches=2,
        calibrate_share=dict.fromkeys(terms.names(), 0.5),
    )
    run = replace(run, soft_loss=calibrated)
    launch(partial(train_and_tell, run, folder), 2)
    return run, [torch.load(folder / f"told-{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_both_processes_end_with_the_same_weights(pair):
    run, told = pair
    assert [one["rank"] for one in told] == [0, 1]
    for kind in ("live", "average"):
        mine, others = told[0][kind], told[1][kind]
        assert all(torch.equal(value, others[name]) for name, value in mine.items()), "statistics too"
    beside = {name for name in told[0]["live"] if name.startswith("soft_loss.")}
    assert {"soft_loss.calibration.term_norms", "soft_loss.adapters.vectors.0.0.weight"} <= beside
    assert told[0]["live"]["soft_loss.calibration.seen"] == 2
    assert not torch.equal(told[0]["live"]["model.0.conv.weight"], run.model.state_dict()["model.0.conv.weight"])


def test_the_teachers_terms_reach_the_weights_of_both_processes(pair):
    """Labels weigh nothing here: what moved, the teacher moved; and its terms are logged."""
    run, told = pair
    start = run.model.state_dict()
    weights = [name for name in start if name.endswith("conv.weight") and "dfl" not in name]
    moved = [name for name in weights if not torch.equal(told[1]["live"][name], start[name])]
    assert len(moved) > 0.9 * len(weights)
    rows = rows_of(run.folder / "run/results.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"], "one process writes"
    assert all(float(row[f"train/{name}"]) > 0 for row in rows for name in (*run.soft_loss.terms.names(), "cls_loss"))


def test_an_epochs_pictures_are_shared_out_and_keys_know_no_rank(pair):
    run, told = pair
    for epoch in (0, 1):
        view = run.plan.at(epoch)
        seen = [
            [image for image, closing, number in one["seen"] if (closing, number) == (view.closing, view.number)]
            for one in told
        ]
        assert [len(part) for part in seen] == [4, 4]
        assert sorted(seen[0] + seen[1]) == sorted(image.digest for image in run.train)


def test_resumable_files_are_written_once(pair):
    run, _ = pair
    assert sorted(path.name for path in (run.folder / "resume").iterdir()) == ["best.pt", "last.pt", "state.pt"]


def test_two_processes_go_on_after_one_of_them_failed(training_project, tmp_path):
    """A loss that is no number in one process stops both, is told plainly, and the next run goes on from it."""
    from kd_steps.adapters.yolo.train.distributed import TrainingProcessError
    from kd_steps.adapters.yolo.train.training import train

    run = training_of(training_project, tmp_path, PoisonedAnswers, processes=2)
    good = run.soft_loss.cached.poison(run.train[3].digest, run.plan.at(1))
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(TrainingProcessError, match=r"the loss is not finite in epoch 2 \(kd_box = nan\)"):
        train(run)
    assert not set(psutil.Process().children(recursive=True)) - before
    run.soft_loss.cached.stored[run.train[3].digest, run.plan.at(1)] = good
    model = train(run)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert [row["epoch"] for row in rows_of(tmp_path / "run/results.csv")] == ["1", "2"]


def test_processes_of_a_killed_stage_end_with_it_and_the_stage_goes_on(tmp_path):
    root = write_training_project(tmp_path / "project", compute={"device": "cpu", "precision": "fp32", "processes": 2})
    write_model(root, "teacher")
    assert run_stage_in(root, "cache_logits").returncode == 0
    kept = root / "models/student/resume/state.pt"
    with subprocess.Popen(
        stage_command("distill"),
        cwd=root,
        env=stage_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as stage:
        try:
            while not kept.exists():
                assert stage.poll() is None, "it ended by itself"
                time.sleep(0.005)
            workers = psutil.Process(stage.pid).children(recursive=True)
        finally:
            stage.kill()
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    done = run_stage_in(root, "distill")
    assert done.returncode == 0, done.stderr
    assert "it goes on after its last finished epoch" in done.stdout
    rows = rows_of(root / "models/student/results.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row[f"train/{name}"]) > 0 for row in rows for name in ("kd_class", "kd_box"))
    assert sorted(path.name for path in (root / "models/student").iterdir()) == [
        "fingerprint.json",
        "results.csv",
        "sidecar.json",
        "weights.pt",
    ]


def test_a_batch_is_shared_evenly_or_not_at_all(tmp_path):
    root = write_training_project(tmp_path / "project", compute={"device": "cpu", "precision": "fp32", "processes": 3})
    with pytest.raises(ValueError, match="batch: 4 pictures cannot be shared evenly by 3 processes"):
        training_of(root, tmp_path / "run", None)


@pytest.mark.parametrize(("device", "wanted", "count"), [("cpu", 1, 1), ("cpu", 3, 3), ("0", 1, 1), ("0,1", 1, 2)])
def test_a_gpu_has_one_process(device, wanted, count):
    from kd_steps.adapters.yolo.train.distributed import process_count

    assert process_count(device, wanted) == count


def test_several_processes_on_one_gpu_are_refused():
    from kd_steps.adapters.yolo.train.distributed import process_count

    with pytest.raises(ValueError, match=r"compute.processes: 2 processes on 1 GPU\(s\) \(compute.device: 0\)"):
        process_count("0", 2)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (
            "killed",
            ValueError,
            r"process 1 of the training was ended by signal 9.*goes on from the last finished epoch",
        ),
        ("defect", RuntimeError, r"(?s)exit codes by rank: \[None, 1\].*ZeroDivisionError: a defect"),
    ],
)
def test_the_end_of_one_process_ends_all_and_is_told(kind, error, message):
    from kd_steps.adapters.yolo.train.distributed import launch

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(error, match=message):
        launch(partial(stop_second_process, kind), 2)
    assert not set(psutil.Process().children(recursive=True)) - before


def test_what_a_killed_launcher_left_in_the_temporary_folder_is_removed(tmp_path, monkeypatch):
    from kd_steps.adapters.yolo.train import distributed

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = {"dead": f"{ended.pid}-abc", "alive": f"{os.getpid()}-abc", "of before": "abc123"}
    folders = {kind: tmp_path / f"retort-processes-{name}" for kind, name in names.items()}
    for folder in folders.values():
        folder.mkdir()
        (folder / "rendezvous").touch()
    (tmp_path / "another").mkdir()
    distributed._remove_left_behind()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "another", folders["alive"]]
