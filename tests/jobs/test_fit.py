"""Teachers that do not fit the data or the student, refused before anything is answered or trained."""

from pathlib import Path

import pytest
from training_fixture import CLASSES, decided_model, write_model, write_params, write_training_project

from kd_steps import cache_logits, distill
from kd_steps.adapters.files import sha256_of
from kd_steps.adapters.sidecar import read_sidecar


@pytest.fixture(scope="module")
def prepared_project(tmp_path_factory):
    return write_training_project(tmp_path_factory.mktemp("fit"))


@pytest.fixture
def project(prepared_project, monkeypatch):
    monkeypatch.chdir(prepared_project)
    write_params(prepared_project)
    return prepared_project


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (list(reversed(CLASSES)), "the same classes in another order: number 0 is "),
        (CLASSES[:-1], f"the teacher does not know '{CLASSES[-1]}'"),
        ([*CLASSES, "hole"], "the data does not have 'hole'"),
        (["cat", "dog"], "they have no class in common: the teacher knows 'cat', 'dog'"),
    ],
)
@pytest.mark.parametrize("stage", [cache_logits, distill])
def test_a_teacher_of_other_classes_is_refused(project, stage, classes, told):
    write_model(project, "teacher", classes=classes)
    with pytest.raises(
        ValueError, match=f"models/teacher: the teacher's classes are not those of data/prepared: {told}"
    ):
        stage.main()
    assert not (project / "data/cache").exists()
    assert not (project / "models/student").exists()


def test_weights_of_other_classes_under_a_sidecar_that_fits_are_refused(project):
    """As after a copy by hand: the note is right, the network answers for something else."""
    from kd_steps.adapters.files import write_json
    from kd_steps.adapters.yolo.models import save_weights
    from kd_steps.artifacts import read_json

    write_model(project, "teacher")
    weights, note = Path("models/teacher/weights.pt"), Path("models/teacher/sidecar.json")
    save_weights(decided_model(1, list(reversed(CLASSES))), weights)
    write_json(note, {**read_json(note), "sha256": sha256_of(weights)})
    with pytest.raises(ValueError, match=r"models/teacher/weights\.pt: the teacher's classes are not .* another order"):
        cache_logits.main()


def test_a_student_with_other_levels_is_refused_before_the_teacher_answers(project):
    write_model(project, "teacher")
    write_params(project, distill={"epochs": 2, "model": "yolov8n-p6.yaml", "close_mosaic_fraction": 0.5})
    with pytest.raises(ValueError, match=r"4 levels with strides \(8, 16, 32, 64\) px, the teacher's 3 with"):
        cache_logits.main()
    assert not (project / "data/cache").exists()


def test_a_teacher_that_fits_is_let_through(project):
    from kd_steps.adapters.yolo.models import load_weights
    from kd_steps.jobs.fit import require_fitting

    write_model(project, "teacher")
    sidecar = read_sidecar(Path("models/teacher"))
    teacher = load_weights(Path("models/teacher/weights.pt"), sidecar.sha256)
    require_fitting(Path("models/teacher"), sidecar, teacher, decided_model(2), CLASSES)
