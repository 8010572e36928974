"""Stage `train_teacher`: its outputs, a kill, and weights that cannot be used."""

import csv
import json
import shutil
import signal
from dataclasses import replace

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

pytestmark = pytest.mark.slow

SLOW = {"epochs": 2, "batch": 1, "nominal_batch": 1}  # eight steps an epoch: time to be killed between two
GOES_ON = "the training of this teacher was stopped here; it goes on after its last finished epoch"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A project whose teacher was killed (SIGKILL) in its second of two epochs, and its data's digest before."""
    root = write_training_project(tmp_path_factory.mktemp("killed"), train_teacher=SLOW)
    before = tree_digest(root / "data")
    assert kill_when(root, "train_teacher", "models/teacher/resume/state.pt") == signal.SIGKILL
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
        "fingerprint.json",
        "results.csv",
        "sidecar.json",
        "weights.pt",
    ]
    sidecar = read_sidecar(root / "models/teacher")
    assert (sidecar.kind, sidecar.classes, sidecar.new_classes) == ("teacher", tuple(CLASSES), ())
    assert sidecar.dataset_digest == "d" * 64
    metrics = json.loads((root / "metrics/alone/teacher.json").read_text())
    assert metrics["epochs"] == 2
    assert metrics == {"schema": 1, **sidecar.training}
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


def given(root, classes=CLASSES, **more):
    """A weight file of a trained network, and the parameters that take it as it is."""
    from kd_steps.adapters.yolo.models import save_weights

    save_weights(decided_model(3, classes), root / "mine.pt")
    as_it_is = {"weights": "mine.pt", "weights_sha256": sha256_of(root / "mine.pt"), "epochs": 0}
    write_params(root, train_teacher={**as_it_is, **more})


def test_given_weights_are_taken_as_they_are_and_scored(tmp_path, monkeypatch):
    from kd_steps.adapters.yolo.models import load_weights

    root = write_training_project(tmp_path / "given")
    given(root)
    monkeypatch.chdir(root)
    train_teacher.main()
    assert sorted(path.name for path in (root / "models/teacher").glob("[!f]*")) == ["sidecar.json", "weights.pt"]
    sidecar = read_sidecar(root / "models/teacher")
    assert (sidecar.kind, sidecar.model, sidecar.classes) == ("teacher", "mine.pt", tuple(CLASSES))
    measured = json.loads((root / "metrics/alone/teacher.json").read_text())
    assert measured == {"schema": 1, **sidecar.training}
    assert measured["epochs"] == 0
    assert 0 <= measured["val_map50_95"] <= 1
    taken = load_weights(root / "models/teacher/weights.pt", sidecar.sha256)
    original = load_weights(root / "mine.pt", sidecar.lineage["weights_sha256"])
    assert all((a == b).all() for a, b in zip(taken.parameters(), original.parameters(), strict=True))


def label_what_it_sees(root, model, count=2):
    """Make a network's best detections the labels of the validation pictures, so that it scores."""
    import cv2
    import pandas as pd
    import torch
    from ultralytics.utils.nms import non_max_suppression

    prepared = root / "data/prepared"
    images, boxes = (pd.read_parquet(prepared / f"{name}.parquet") for name in ("images", "boxes"))
    places = boxes.index[boxes["split"] == "val"]
    for number, picture in enumerate(images[images["split"] == "val"]["path"]):
        pixels = torch.from_numpy(cv2.imread(str(prepared / picture))[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            (found,) = non_max_suppression(model.eval()(pixels)[0], 0.001, 0.6)
        for row, (x1, y1, x2, y2, _, label) in zip(places[number * count :], found[:count].tolist(), strict=False):
            corners = {"x1_px": max(x1, 0), "y1_px": max(y1, 0), "x2_px": min(x2, 64), "y2_px": min(y2, 64)}
            for column, value in {**corners, "class_id": int(label), "class_name": CLASSES[int(label)]}.items():
                boxes.loc[row, column] = value
    boxes.to_parquet(prepared / "boxes.parquet")


def test_weights_taken_as_they_are_score_as_a_training_of_them_would(tmp_path, monkeypatch):
    """A training whose learning rate is next to nothing ends with the same network."""
    from kd_steps.adapters.yolo.models import save_weights

    scores = []
    for name, changes in (("as-it-is", {"epochs": 0}), ("trained", {"epochs": 1, "lr0": 1e-12, "freeze_layers": 20})):
        root = write_training_project(tmp_path / name)
        model = decided_model(3)
        for branch in model.model[-1].cv2:
            branch[-1].bias.data.view(4, 16)[:, 1] += 12  # boxes of two strides, which lie within the picture
        label_what_it_sees(root, model)
        for module in model.modules():
            if hasattr(module, "running_mean"):
                module.momentum = 0.0  # statistics stay as they are, too
        save_weights(model, root / "mine.pt")
        pinned = {"weights": "mine.pt", "weights_sha256": sha256_of(root / "mine.pt"), "model": "yolo11n.yaml"}
        write_params(root, train_teacher={**pinned, **changes})
        monkeypatch.chdir(root)
        train_teacher.main()
        measured = json.loads((root / "metrics/alone/teacher.json").read_text())
        scores.append([measured["val_map50"], measured["val_map50_95"]])
    assert min(scores[0]) > 0.1, "it was scored on what it sees"
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_a_given_network_with_more_classes_in_another_order_answers_for_the_datas(tmp_path, monkeypatch):
    """As the student now in production, which has learnt new parts."""
    import torch

    from kd_steps.adapters.yolo.models import load_weights

    root = write_training_project(tmp_path / "more")
    given(root, ["new part", *reversed(CLASSES)])
    monkeypatch.chdir(root)
    train_teacher.main()
    sidecar = read_sidecar(root / "models/teacher")
    taken = load_weights(root / "models/teacher/weights.pt", sidecar.sha256).float().eval()
    original = load_weights(root / "mine.pt", sidecar.lineage["weights_sha256"]).float().eval()
    assert list(taken.names.values()) == CLASSES
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found, whole = taken(picture)[1], original(picture)[1]
    assert torch.equal(found["boxes"], whole["boxes"])
    for place, name in enumerate(CLASSES):
        logits = whole["scores"][:, ["new part", *reversed(CLASSES)].index(name)]
        assert torch.allclose(found["scores"][:, place], logits, rtol=1e-5, atol=1e-5)  # of a convolution as wide again


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (CLASSES[:1], f"the teacher does not know '{CLASSES[1]}'"),
        (["cat", "dog"], "they have no class in common"),
    ],
)
def test_a_given_network_that_lacks_a_class_is_refused(tmp_path, monkeypatch, classes, told):
    root = write_training_project(tmp_path / "lacks")
    given(root, classes)
    monkeypatch.chdir(root)
    with pytest.raises(ValueError, match=rf"mine\.pt: {told}.*as it is; train it further"):
        train_teacher.main()
    assert not (root / "metrics/alone/teacher.json").exists()


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
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.data.reader import load_prepared

    params, prepared = params_of(training_project), load_prepared(training_project / "data/prepared")
    contract = current_contract(params.preprocessing, params.augmentation)
    plain = train_teacher.fingerprint(params, prepared, contract)
    learns_slower = params.train_teacher.changed(lr0=0.5)
    others = [
        train_teacher.fingerprint(params, replace(prepared, digest="D"), contract),
        train_teacher.fingerprint(params, replace(prepared, classes=("other", *prepared.classes[1:])), contract),
        train_teacher.fingerprint(params, prepared, replace(contract, imgsz_px=96)),
        train_teacher.fingerprint(params.model_copy(update={"seed": 1}), prepared, contract),
        train_teacher.fingerprint(params.model_copy(update={"train_teacher": learns_slower}), prepared, contract),
    ]
    assert all(other != plain for other in others)
