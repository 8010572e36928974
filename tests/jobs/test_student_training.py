"""A student that is its own teacher: no cache, live answers of its average, and a plain network at the end."""

import csv
import shutil
import signal

import pytest
from training_fixture import SMALL, TRAINING, kill_when, run_stage_in, write_model, write_params, write_training_project

from kd_steps import cache_logits, distill
from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.artifacts import read_json

pytestmark = pytest.mark.slow

OWN = {**TRAINING, "close_mosaic_fraction": 0.5, "answers": "ema", "attention_weight": 1.0, "class_weight": 1.0}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which `cache_logits` has run with a teacher, and then with `answers: ema`."""
    root = write_training_project(tmp_path_factory.mktemp("own"))
    write_model(root, "teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cache_logits.main()
        assert list((root / "data/cache").glob("*.arrow"))
        write_params(root, distill=OWN)
        cache_logits.main()
    return root


def test_no_cache_is_built_and_its_folder_says_why(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    cache_logits.main()
    assert "data/cache: distill.answers is ema, the student's own average answers live" in capsys.readouterr().out
    assert [path.name for path in (project / "data/cache").iterdir()] == ["header.json"]
    assert read_json(project / "data/cache/header.json") == {"answers": "ema"}
    assert read_json(project / "metrics/cache.json")["teacher_forwards"] == 0


def test_a_killed_student_goes_on_and_learns_from_its_own_average(project):
    assert kill_when(project, "distill", "models/student/resume/state.pt") == signal.SIGKILL
    done = run_stage_in(project, "distill")
    assert done.returncode == 0, done.stderr
    assert "the training of this student was stopped here; it goes on after its last finished epoch" in done.stdout
    assert "the student's own moving average teaches" in done.stdout
    with (project / "models/student/results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"].strip() for row in rows] == ["1", "2"]
    assert all(float(row["train/kd_attention"]) > 0 for row in rows), "the average lags behind the student"
    sidecar = read_sidecar(project / "models/student")
    assert (sidecar.kind, sidecar.lineage["taught_by"]) == ("student", "ema")
    assert sidecar.lineage["asked"]["max_anchors"] == 300, "what is asked of the average belongs to the fingerprint"
    assert read_json(project / "metrics/teacher_choice.json")["proposal"] == []


def test_back_to_a_teacher_the_empty_cache_is_refused(project, monkeypatch, tmp_path):
    root = shutil.copytree(project, tmp_path / "back")  # the others go on with the project as it is
    monkeypatch.chdir(root)
    write_params(root, distill={**OWN, "answers": "cached", "model": SMALL})
    with pytest.raises(
        ValueError, match=r"data/cache: the teacher cache was made from something else .*dvc repro cache_l"
    ):
        distill.main()
