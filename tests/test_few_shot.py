"""Stage `few_shot`: new parts by name, the base classes kept, and sets that cannot be used."""

import json
import shutil
import signal

import cv2
import numpy as np
import pytest
import torch
from training_fixture import (
    CLASSES,
    kill_when,
    params_of,
    run_stage_in,
    tree_digest,
    write_model,
    write_new_parts,
    write_params,
    write_training_project,
)

from kd_steps import few_shot
from kd_steps.adapters.data.ledger import load_ledger
from kd_steps.adapters.data.part_sets import PartPicture, read_part_sets
from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.jobs import part_training

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a student and no new parts, as the current folder."""
    root = write_training_project(tmp_path / "project")
    write_model(root, "student")
    monkeypatch.chdir(root)
    return root


def part_sets(root):
    return read_part_sets(root / "data/new_parts", load_ledger("retort"), "data/classes/retort.csv")


def metrics(root):
    return json.loads((root / "metrics/few_shot.json").read_text())


@pytest.mark.parametrize("names", [None, CLASSES])
def test_without_new_classes_the_student_is_handed_on(project, capsys, names):
    if names is not None:
        write_new_parts(project, names)  # pictures of classes that it knows teach nothing new
    few_shot.main()
    assert "data/new_parts: no new parts; the student is handed on as it is" in capsys.readouterr().out
    found, student = read_sidecar(project / "models/few_shot"), read_sidecar(project / "models/student")
    assert found.sha256 == student.sha256
    assert (found.kind, found.classes, found.new_classes) == ("few_shot", student.classes, ())
    assert metrics(project) == {"schema": 1, "new_classes": [], "shots": {}, "epochs": 0}


def test_new_parts_are_learnt_after_a_kill_too(project):
    from kd_steps.adapters.yolo.models import load_weights

    write_new_parts(project, ["missing", "tombstone"])  # another order than the student's
    before = tree_digest(project / "data")
    assert kill_when(project, "few_shot", "models/few_shot/run") == signal.SIGKILL
    assert not (project / "metrics/few_shot.json").exists()
    done = run_stage_in(project, "few_shot")
    assert done.returncode == 0, done.stderr
    assert "the training of this student with new parts was stopped here" in done.stdout
    assert "Freezing layer 'model.0." in done.stdout + done.stderr
    assert "for frozen layer" not in done.stdout + done.stderr
    found, student = read_sidecar(project / "models/few_shot"), read_sidecar(project / "models/student")
    assert found.classes == (*CLASSES, "tombstone")
    assert found.new_classes == ("tombstone",)
    assert found.lineage["student_sha256"] == student.sha256 != found.sha256
    assert metrics(project)["shots"] == {"tombstone": 3}
    assert "train/kd_class" in (project / "models/few_shot/results.csv").read_text().splitlines()[0]
    model = load_weights(project / "models/few_shot/weights.pt", found.sha256)
    assert model.names == {0: "bridge", 1: "missing", 2: "tombstone"}
    old = load_weights(project / "models/student/weights.pt", student.sha256)
    assert torch.equal(model.model[0].conv.weight, old.model[0].conv.weight), "the backbone is frozen"
    assert all(level[-1].weight[2].abs().sum() > 0 for level in model.model[-1].cv3), "the new rows have learnt"
    assert tree_digest(project / "data") == before
    assert not {"run", "resume"} & {path.name for path in (project / "models/few_shot").iterdir()}


def test_the_training_draws_holds_and_keeps_as_it_is_told(project):
    """Shots in every batch, the base student's head held at the given weight, and the last epoch's weights."""
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.yolo.teach.answering import trained

    write_new_parts(project, ["missing", "tombstone"])
    few = {**params_of(project).few_shot.model_dump(), "base_distillation_weight": 0.6, "new_part_share": 0.25}
    write_params(project, few_shot={**few, "iterations_per_epoch": 3, "batch": 4, "freeze_layers": 5})
    params, prepared = params_of(project), load_prepared(project / "data/prepared")
    (part,), classes = part_sets(project), (*CLASSES, "tombstone")
    shots = part_training.labelled_shots(part, classes)
    student, base = trained(params, project / "models/student")
    run = part_training.few_shot_run(params, prepared, student, base, classes, shots)
    assert (run.new_parts.count, run.new_parts.share, run.new_parts.per_epoch) == (3, 0.25, 12)
    assert [picture.digest for picture in run.train] == [p.digest for p in (*prepared.split("train"), *shots)]
    weights = run.soft_loss.weights_at(0)
    assert (weights.soft, weights.hard, weights.temperature) == (0.6, 1.0, 1.0)
    assert run.keep == "last"
    assert run.options["freeze"] == 5
    said = run.soft_loss.live(torch.zeros(1, 3, 64, 64))
    assert not [own for own in said.neck.vectors if len(own.values)], "no term compares necks here"
    assert said.neck.attention.numel() == 0


def part_picture(folder, text, name="shot"):
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.png"), np.full((40, 80, 3), 90, np.uint8))
    label = folder / f"{name}.txt"
    if text is not None:
        label.write_text(text)
    return PartPicture(folder / f"{name}.png", label)


def test_numbers_are_translated_by_class_name(tmp_path):
    picture = part_picture(tmp_path, "0 0.5 0.5 0.25 0.5\n2 0.25 0.5 0.5 1\n1 0.5 0.5 0.1 0.1\n")
    columns = ["bridge", "missing", "x", "tombstone"]
    shot = part_training.labelled_shot(picture, ["tombstone", "missing", "bridge"], columns)
    assert shot.class_ids.tolist() == [3, 0, 1]
    assert shot.boxes_xywh.tolist()[0] == pytest.approx([0.5, 0.5, 0.25, 0.5])
    assert shot.size_wh_px == (80, 40)


def test_a_picture_without_objects_is_one(tmp_path):
    shot = part_training.labelled_shot(part_picture(tmp_path, ""), ["a"], ["a"])
    assert shot.boxes_xywh.shape == (0, 4)
    assert shot.class_ids.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2\n", r"shot\.txt, line 2: "),
        ("0 nan 0.5 0.2 0.2\n", r"shot\.txt, line 1: .*nan"),
        ("7 0.5 0.5 0.2 0.2\n", r"shot\.txt, line 1: .*7"),
        ("0 0.9 0.5 0.6 0.2\n", r"shot\.txt, line 1: "),
        (None, r"shot\.txt: missing; an empty file says that shot\.png has no objects"),
    ],
)
def test_labels_that_cannot_be_used_are_named_with_their_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        part_training.labelled_shot(part_picture(tmp_path, text), ["a", "b"], ["a", "b"])


def test_a_truncated_picture_is_named(tmp_path):
    picture = part_picture(tmp_path, "")
    picture.path.write_bytes(picture.path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"shot\.png: the picture is truncated"):
        part_training.labelled_shot(picture, ["a"], ["a"])


def test_a_set_that_cannot_be_used_stops_the_stage(project):
    write_new_parts(project, [*CLASSES, "tombstone"])
    (project / "data/new_parts/held_out/data.yaml").write_text("names: 3\n")
    (part,) = part_sets(project)
    with pytest.raises(ValueError, match=r"held_out: data\.yaml cannot be used \(names: expected a list"):
        part_training.labelled_shots(part, CLASSES)
    with pytest.raises(ValueError, match=r"held_out: data\.yaml cannot be used \(names: expected a list"):
        few_shot.main()
    assert not (project / "metrics/few_shot.json").exists()


def test_a_set_that_dvc_does_not_watch_is_told(project):
    write_new_parts(project, [*CLASSES, "tombstone"])
    shutil.copytree(project / "data/new_parts/held_out", project / "data/new_parts/fuse")
    with pytest.raises(ValueError, match=r"new_parts/fuse: a set outside .*new_parts/line, .* move it there"):
        few_shot.main()


def test_a_linked_set_is_told_for_dvc_does_not_look_into_it(project, tmp_path):
    write_new_parts(project, [*CLASSES, "tombstone"])
    line = project / "data/new_parts/line"
    line.mkdir()
    (project / "data/new_parts/held_out").rename(tmp_path / "fuse")
    (line / "fuse").symlink_to(tmp_path / "fuse")
    with pytest.raises(ValueError, match=r"line/fuse: a link, into which DVC does not look; put the folder itself"):
        few_shot.main()


def test_labels_with_a_byte_order_mark_or_a_capital_suffix_are_read(project):
    write_new_parts(project, [*CLASSES, "tombstone"])
    labels = sorted((project / "data/new_parts/held_out/labels").iterdir())
    labels[0].write_bytes(b"\xef\xbb\xbf" + labels[0].read_bytes())
    labels[1].rename(labels[1].with_suffix(".TXT"))
    (part,) = part_sets(project)
    assert part.stray_labels == ()
    assert len(part_training.labelled_shots(part, [*CLASSES, "tombstone"])) == len(labels)


def test_a_finished_students_results_come_with_it(project):
    few_shot.main()
    assert (project / "models/few_shot/results.csv").read_bytes() == (
        project / "models/student/results.csv"
    ).read_bytes()
    shutil.rmtree(project / "models/student")
    with pytest.raises(FileNotFoundError, match=r"models/student/sidecar\.json: no such file; `dvc repro` makes it"):
        few_shot.main()
