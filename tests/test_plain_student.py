"""Stage `plain_student`: the student's own training, on the labels alone."""

import subprocess
import sys

import pytest
from training_fixture import (
    CLASSES,
    TRAINING,
    enter_again,
    stage_environment,
    tree_digest,
    write_model,
    write_params,
    write_training_project,
)

from kd_steps import distill
from kd_steps.adapters.files import write_json
from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.artifacts import read_json

pytestmark = pytest.mark.slow

GUARDED = {**TRAINING, "lr_guard_ratio": 2.0}  # the guard compares the teacher's terms, of which there are none here
REFUSE = {"min_lead_points": 101.0, "min_student_share": 0.3, "max_student_share": 0.5, "on_weak_teacher": "refuse"}


def run_plain(root, *arguments):
    command = [sys.executable, "-m", "kd_steps.plain_student", *arguments]
    return subprocess.run(command, cwd=root, env=stage_environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a teacher and the score of the student alone."""
    root = write_training_project(tmp_path_factory.mktemp("plain"), plain_student={"seeds": [3]}, distill=GUARDED)
    write_model(root, "teacher")
    done = run_plain(root, "3")
    assert done.returncode == 0, done.stderr
    return root


def test_it_is_trained_on_the_labels_alone_and_scored(project):
    sidecar, score = (
        read_sidecar(project / "models/plain_student/3"),
        read_json(project / "metrics/alone/student_3.json"),
    )
    assert (sidecar.kind, sidecar.classes) == ("plain_student", tuple(CLASSES))
    assert sidecar.lineage == {"taught_by": None}
    assert score == {"schema": 1, **sidecar.training}
    assert score["epochs"] == 2
    assert 0 <= score["val_map50_95"] <= 1
    assert "kd_" not in (project / "models/plain_student/3/results.csv").read_text()


def test_a_finished_one_is_handed_over_without_a_network(project):
    before = tree_digest(project / "models/plain_student")
    done = enter_again(project, "plain_student", "3")
    assert done.returncode == 0, done.stderr
    assert "this plain student is trained already" in done.stdout
    assert tree_digest(project / "models/plain_student") == before


@pytest.mark.parametrize(
    ("training", "told"),
    [
        (
            {"val_map50_95": 0.9},
            r"lead of the teacher: \+\d\d\.\d points of mAP50-95 .* 1 seed\), at least 101 are wanted",
        ),
        ({}, "lead of the teacher: not measured, the teacher has no score"),
    ],
)
def test_a_teacher_whose_lead_is_not_proven_is_refused_where_that_is_asked(
    project, monkeypatch, capsys, training, told
):
    """No teacher is 101 points ahead."""
    monkeypatch.chdir(project)
    write_params(project, plain_student={"seeds": [3]}, distill={"teacher_choice": REFUSE})
    note = project / "models/teacher/sidecar.json"
    write_json(note, {**read_json(note), "training": training})
    with pytest.raises(ValueError, match=f"the teacher is too weak to teach: {told}"):
        distill.main()
    assert not (project / "models/student").exists()
    verdict = read_json(project / "metrics/teacher_choice.json")
    assert [rule["rule"] for rule in verdict["rules"]] == ["lead", "capacity"]
    assert "teacher choice, " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("one",), ("-1",)])
def test_a_seed_that_is_none_is_told(project, arguments):
    done = run_plain(project, *arguments)
    assert done.returncode == 1
    assert "error: which seed? `python -m kd_steps.plain_student <seed>`" in done.stderr
