"""What weights depend on: names apart from numbers, models of the project's own, releases without their builds."""

import pytest

from kd_steps.jobs.fingerprint import Fingerprint, own_architecture, that_count

NOTE = Fingerprint(
    dataset="d",
    contract="c",
    seed=0,
    classes=("a", "b"),
    values={"model": "yolo11n.yaml", "lr0": 0.01},
    learns_from="t",
    taught_with={"views": 3},
    libraries={"torch": "2.15.0"},
    recipe={"views": 1},
)


def test_swapped_names_and_a_renamed_teacher_alone_differ_in_names():
    wanted = NOTE.model_copy(update={"classes": ("b", "a"), "learns_from": "renamed"})
    assert wanted.differs_in_names_alone(NOTE, ["older", "t"])
    assert not wanted.differs_in_names_alone(NOTE, ["older"]), "another teacher is no matter of names"


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "D"},
        {"contract": "C"},
        {"seed": 1},
        {"classes": ("a", "b", "c")},
        {"values": {"model": "yolo11n.yaml", "lr0": 0.02}},
        {"architecture": "own"},
        {"taught_with": {"views": 4}},
        {"libraries": {"torch": "2.16.0"}},
        {"recipe": {"views": 2}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_anything_else_is_more_than_names(changes):
    assert not NOTE.model_copy(update={"classes": ("b", "a"), **changes}).differs_in_names_alone(NOTE, ["t"])


@pytest.mark.parametrize("values", [{"model": "mine.pt"}, {"model": "yolo11n.yaml", "weights": "mine.pt"}])
def test_a_training_that_begins_with_weights_goes_by_names(values):
    """Rows of a weight file go with the names of their classes, so that other names are other weights."""
    note = NOTE.model_copy(update={"values": values})
    assert not note.model_copy(update={"classes": ("b", "a")}).differs_in_names_alone(note, [])


def test_a_model_of_the_projects_own_counts_by_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert own_architecture("yolo11n.yaml") is None, "Ultralytics' release tells it"
    own = tmp_path / "mine.yaml"
    own.write_text("nc: 2\n")
    before = own_architecture("mine.yaml")
    own.write_text("# a comment\nnc: 2\n")
    assert own_architecture("mine.yaml") == before
    own.write_text("nc: 3\n")
    assert own_architecture("mine.yaml") not in (before, None)
    (tmp_path / "yolo11.yaml").write_text("nc: 2\n")
    assert own_architecture("yolo11n.yaml") == before, "Ultralytics reads the scale out of the name"


def test_a_new_knob_at_the_value_that_does_nothing_leaves_finished_weights_as_they_are():
    before, neutral = {"lr0": 0.01}, {"label_smoothing": 0.0}
    assert that_count({**before, "label_smoothing": 0.0}, neutral) == before
    assert that_count({**before, "label_smoothing": 0.1}, neutral) == {**before, "label_smoothing": 0.1}
    assert that_count({"lr0": 0.0}, neutral) == {"lr0": 0.0}, "of other knobs, every value counts"
