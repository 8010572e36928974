"""Names mended in the data: every network gets them, and none is trained again for it."""

import json
import shutil

import pytest
import torch
import yaml
from prepared import list_classes, write_card
from training_fixture import (
    CLASSES,
    COUNTS,
    TRAINING,
    enter_again,
    params_of,
    tree_digest,
    write_new_parts,
    write_params,
    write_training_project,
)

from kd_steps import cache_logits, distill, few_shot, train_teacher
from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.adapters.yolo.models import load_weights

NETWORKS = ("teacher", "student", "few_shot")


def rename(root, base, new):
    """Other names for the base classes and for the new part, all labels as they are."""
    list_classes(root, [*base, new])
    write_card(root / "data/prepared", base, [new], COUNTS)
    part = root / "data/new_parts/held_out/data.yaml"
    part.write_text(yaml.safe_dump({**yaml.safe_load(part.read_text()), "names": {0: base[1], 1: new}}))


def run():
    for stage in (train_teacher, cache_logits, distill, few_shot):
        stage.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose networks are trained."""
    root = write_training_project(tmp_path_factory.mktemp("names") / "project")
    write_new_parts(root, [CLASSES[1], "tombstone"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run()
    return root


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy of it that is the current folder."""
    root = shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def test_finished_work_is_handed_over_without_a_network(project, capsys):
    """Also the proposal of assistants, for which sizes are tried: this student is too small for its teacher."""
    choice = {**params_of(project).distill.teacher_choice.model_dump(), "min_student_share": 0.6}
    choice["max_student_share"] = 1.0
    write_params(project, distill={**TRAINING, "close_mosaic_fraction": 0.5, "teacher_choice": choice})
    write_sidecar_parameters(project / "models/teacher", 1_000_000)
    run()
    assert capsys.readouterr().out.count("is trained already, from the same data") == 3
    before = {part: tree_digest(project / part) for part in ("models", "data", "plots")}
    verdict = json.loads((project / "metrics/teacher_choice.json").read_text())
    assert verdict["proposal"]
    shutil.rmtree(project / "metrics")  # as DVC does before a stage
    for stage in ("train_teacher", "cache_logits", "distill", "few_shot"):
        done = enter_again(project, stage)
        assert done.returncode == 0, done.stderr
    assert {part: tree_digest(project / part) for part in before} == before
    assert json.loads((project / "metrics/teacher_choice.json").read_text()) == verdict
    assert json.loads((project / "metrics/cache.json").read_text())["teacher_forwards"] == 0


def write_sidecar_parameters(folder, parameters):
    note = json.loads((folder / "sidecar.json").read_text())
    (folder / "sidecar.json").write_text(json.dumps({**note, "parameters": parameters}))


def weights(root):
    found = {}
    for name in NETWORKS:
        sidecar = read_sidecar(root / "models" / name)
        found[name] = load_weights(root / "models" / name / "weights.pt", sidecar.sha256)
    return found


def test_swapped_and_mended_names_reach_every_network_and_nobody_trains(project, capsys):
    before, swapped = weights(project), CLASSES[::-1]
    rename(project, swapped, "resistor_0402")
    run()
    said = capsys.readouterr().out
    assert said.count("only the names of its classes are others now") == 3
    assert json.loads((project / "metrics/cache.json").read_text())["teacher_forwards"] == 0
    for name, network in weights(project).items():
        sidecar = read_sidecar(project / "models" / name)
        known = (*swapped, "resistor_0402") if name == "few_shot" else tuple(swapped)
        assert sidecar.classes == known == tuple(network.names.values())
        numbers = zip(network.state_dict().values(), before[name].state_dict().values(), strict=True)
        assert all(torch.equal(now, then) for now, then in numbers)
    student, few = (read_sidecar(project / "models" / name) for name in NETWORKS[1:])
    assert student.lineage["teacher_sha256"] == read_sidecar(project / "models/teacher").sha256
    assert (few.lineage["student_sha256"], few.new_classes) == (student.sha256, ("resistor_0402",))
    assert json.loads((project / "metrics/few_shot.json").read_text())["new_classes"] == ["resistor_0402"]
    run()
    assert capsys.readouterr().out.count("is trained already, from the same data") == 3


def test_a_student_that_is_its_own_teacher_gets_the_names_too(project, capsys):
    write_params(project, distill={**TRAINING, "close_mosaic_fraction": 0.5, "answers": "ema"})
    distill.main()
    rename(project, CLASSES[::-1], "tombstone")
    distill.main()
    assert "only the names of its classes are others now" in capsys.readouterr().out
    assert read_sidecar(project / "models/student").classes == tuple(CLASSES[::-1])
