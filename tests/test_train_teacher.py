"""Stage `train_teacher`: its outputs, a kill, and weights that cannot be used."""

import csv
import json
import shutil
import signal

import pytest
from training_fixture import (
    CLASSES,
    decided_model,
    kill_when,
    params_of,
    run_stage_in,
    tree_digest,
    write_params,
    write_training_project,
)

from kd_steps import train_teacher
from kd_steps.adapters.files import sha256_of
from kd_steps.adapters.sidecar import read_sidecar

SLOW = {"epochs": 2, "batch": 1, "nominal_batch": 1}  # eight steps an epoch: time to be killed between two
GOES_ON = "a training of this teacher was stopped here; it goes on from its last epoch"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A project whose teacher was killed (SIGKILL) in its second of two epochs, and its data's digest before."""
    root = write_training_project(tmp_path_factory.mktemp("killed"), train_teacher=SLOW)
    before = tree_digest(root / "data")
    assert kill_when(root, "train_teacher", "models/teacher/resume/last.pt") == signal.SIGKILL
    return root, before


def epochs_in(table):
    with table.open() as stream:
        return [row["epoch"].strip() for row in csv.DictReader(stream, skipinitialspace=True)]


def test_a_killed_training_goes_on_and_leaves_only_its_result(killed, tmp_path):
    source, before = killed
    root = shutil.copytree(source, tmp_path / "again")
    assert not (root / "metrics/alone/teacher.json").exists()
    assert (root / "models/teacher/fingerprint.json").exists()
    done = run_stage_in(root, "train_teacher")
    assert done.returncode == 0, done.stderr
    assert GOES_ON in done.stdout
    assert "from epoch 2 to 2 total epochs" in done.stdout + done.stderr
    assert epochs_in(root / "models/teacher/results.csv") == ["1", "2"]
    assert sorted(path.name for path in (root / "models/teacher").iterdir()) == [
        "results.csv",
        "sidecar.json",
        "weights.pt",
    ]
    sidecar = read_sidecar(root / "models/teacher")
    assert (sidecar.kind, sidecar.classes, sidecar.new_classes) == ("teacher", tuple(CLASSES), ())
    assert sidecar.dataset_digest == "d" * 64
    metrics = json.loads((root / "metrics/alone/teacher.json").read_text())
    assert metrics["epochs"] == 2
    assert metrics == sidecar.training
    assert tree_digest(root / "data") == before, "training writes nothing beside the pictures"


def test_other_parameters_start_afresh(killed, tmp_path, monkeypatch, capsys):
    root = shutil.copytree(killed[0], tmp_path / "other")
    write_params(root, train_teacher={**SLOW, "epochs": 1})
    monkeypatch.chdir(root)
    train_teacher.main()
    assert GOES_ON not in capsys.readouterr().out
    assert epochs_in(root / "models/teacher/results.csv") == ["1"]
    assert read_sidecar(root / "models/teacher").training["epochs"] == 1


def test_a_training_starts_from_pinned_weights(tmp_path, monkeypatch):
    from kd_steps.adapters.yolo.models import load_weights, save_weights

    root = write_training_project(tmp_path / "pinned")
    save_weights(decided_model(3), root / "mine.pt")
    pinned = {"weights": "mine.pt", "weights_sha256": sha256_of(root / "mine.pt"), "epochs": 1, "lr0": 1e-9}
    write_params(root, train_teacher={**pinned, "model": "yolo11n.yaml"})
    monkeypatch.chdir(root)
    train_teacher.main()
    sidecar = read_sidecar(root / "models/teacher")
    assert sidecar.lineage == {"weights": "mine.pt", "weights_sha256": pinned["weights_sha256"]}
    trained = load_weights(root / "models/teacher/weights.pt", sidecar.sha256)
    start, end = decided_model(3).model[0].conv.weight, trained.model[0].conv.weight
    assert (start - end).abs().max() < 1e-3, "with no learning rate it stays where it began"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "mine.pt: no such weight file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-500]), "mine.pt: sha256 is "),
    ],
)
def test_a_teacher_file_that_cannot_be_used_is_named(tmp_path, monkeypatch, damage, message):
    from kd_steps.adapters.yolo.models import save_weights

    root = write_training_project(tmp_path / "bad")
    path = root / "weights/mine.pt"
    path.parent.mkdir()
    save_weights(decided_model(3), path)
    write_params(root, train_teacher={"weights": "weights/mine.pt", "weights_sha256": sha256_of(path)})
    damage(path)
    monkeypatch.chdir(root)
    with pytest.raises(ValueError, match=message):
        train_teacher.main()
    assert not (root / "metrics/alone/teacher.json").exists()


def test_a_bare_name_that_is_nowhere_is_told(tmp_path, monkeypatch):
    root = write_training_project(tmp_path / "bare")
    write_params(root, train_teacher={"weights": "gone.pt", "weights_sha256": "0" * 64})
    monkeypatch.chdir(root)
    with pytest.raises(ValueError, match=r"gone\.pt"):
        train_teacher.main()


def test_without_prepared_data_the_mend_is_told(tmp_path, monkeypatch):
    write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"dataset\.json: no such file; `dvc repro` makes it"):
        train_teacher.main()


def test_all_that_a_training_depends_on_is_in_its_fingerprint(training_project):
    params = params_of(training_project)
    plain = train_teacher.fingerprint(params, "d", "c")
    others = [
        train_teacher.fingerprint(params, "D", "c"),
        train_teacher.fingerprint(params, "d", "C"),
        train_teacher.fingerprint(params.model_copy(update={"seed": 1}), "d", "c"),
        train_teacher.fingerprint(
            params.model_copy(update={"train_teacher": params.train_teacher.model_copy(update={"lr0": 0.5})}), "d", "c"
        ),
    ]
    assert all(other != plain for other in others)
