"""Fingerprints of the last commit before there were recipe numbers."""

from dataclasses import replace

import pytest
from training_fixture import CLASSES, params_of

from kd_steps.adapters.contract_source import current_contract
from kd_steps.adapters.sidecar import Sidecar
from kd_steps.jobs.before_recipes import LIBRARIES, MADE_BY, as_today
from kd_steps.jobs.fingerprint import Fingerprint


@pytest.fixture(scope="module")
def section(training_project):
    return params_of(training_project).train_teacher.flat()


@pytest.fixture(scope="module")
def sidecar(training_project):
    params = params_of(training_project)
    contract = current_contract(params.preprocessing, params.augmentation)
    return Sidecar("teacher", "m", tuple(CLASSES), (), "w" * 64, 1, contract, "d", {}, {})


@pytest.fixture
def made_of(section):
    return Fingerprint(
        dataset="d",
        contract="c",
        seed=0,
        classes=tuple(CLASSES),
        values=section,
        taught_with={},
        libraries=LIBRARIES,
        recipe={"views": 1, "training": 1},
    )


def old(section, **changes):
    """A teacher's note as that commit wrote it."""
    made_by = {"made_by": MADE_BY["teacher"][0]}
    return {
        **{"dataset": "d", "contract": "c", "seed": 0, "section": section, "architecture": "a", **made_by},
        **changes,
    }


def built():
    raise AssertionError("no network is built where Ultralytics' release tells the architecture")


@pytest.mark.parametrize("made_by", MADE_BY["teacher"])
def test_a_finished_teacher_is_told_as_todays(section, sidecar, made_of, made_by):
    found = as_today(old(section, made_by=made_by), made_of, "teacher", sidecar, built)
    assert found == made_of.model_copy(update={"finished": True})


@pytest.mark.parametrize("changes", [{"made_by": "0" * 64}, {"made_by": MADE_BY["student"][0]}])
def test_what_another_commit_or_stage_made_is_not(section, sidecar, made_of, changes):
    assert as_today(old(section, **changes), made_of, "teacher", sidecar, built) is None


@pytest.mark.parametrize(
    "changes",
    [{"dataset": "D"}, {"contract": "C"}, {"seed": 1}, {"lr0": 0.5}],
)
def test_what_was_made_of_something_else_is_told_so(section, sidecar, made_of, changes):
    note = old({**section, **changes}) if "lr0" in changes else old(section, **changes)
    assert as_today(note, made_of, "teacher", sidecar, built) != made_of.model_copy(update={"finished": True})


def test_other_names_a_raised_number_and_another_release_count(section, sidecar, made_of):
    wanted = made_of.model_copy(update={"finished": True})
    renamed = replace(sidecar, classes=("other", *CLASSES[1:]))
    assert as_today(old(section), made_of, "teacher", renamed, built).classes == renamed.classes
    for changes in ({"recipe": {"views": 1, "training": 2}}, {"libraries": {**LIBRARIES, "torch": "2.16.0"}}):
        now = made_of.model_copy(update=changes)
        assert as_today(old(section), now, "teacher", sidecar, built) != wanted.model_copy(update=changes)


def test_a_model_of_the_projects_own_is_built_and_compared(section, sidecar, made_of):
    from kd_steps.edge.contract import canonical_digest

    own, note = (
        made_of.model_copy(update={"architecture": "file"}),
        old(section, architecture=canonical_digest({"a": 1})),
    )
    assert as_today(note, own, "teacher", sidecar, lambda: {"a": 1}).architecture == "file"
    assert as_today(note, own, "teacher", sidecar, lambda: {"a": 2}).architecture != "file"


def test_a_student_and_a_few_shot_training_are_told_as_todays(section, sidecar, made_of):
    asked = {"score_threshold": 0.01, "views": 7}
    student = made_of.model_copy(update={"finished": True, "learns_from": "t", "taught_with": {**asked, "voices": []}})
    lesson = {"teacher_sha256": "t", "cache": {**asked, "teacher_sha256": "t", "pixels": True}}
    note = old(section, made_by=MADE_BY["student"][0], lesson=lesson)
    assert as_today(note, student, "student", sidecar, built) == student
    asked_others = old(
        section, made_by=MADE_BY["student"][0], lesson={**lesson, "cache": {**lesson["cache"], "teacher_sha256": "T"}}
    )
    assert as_today(asked_others, student, "student", sidecar, built) != student
    few = made_of.model_copy(
        update={
            **{"finished": True, "learns_from": "s", "taught_with": {"max_anchors": 300, "shots": "h"}},
            "values": {**section, "new_part_share": 0.3},
        }
    )
    note = old(section, made_by=MADE_BY["few_shot"][0], few_shot={"new_part_share": 0.3}, student="s", shots="h")
    assert as_today(note, few, "few_shot", sidecar, built) == few
