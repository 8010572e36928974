"""Documents that stages hand on: written, read again, and refused where they are another version or damaged."""

import json

import pytest

from kd_steps.adapters.files import write_document
from kd_steps.artifacts import Document, Findings, OtherVersionError


class Card(Document):
    SCHEMA = 3
    classes: tuple[str, ...]
    score: float | None


CARD = Card(classes=("a", "b"), score=None)


def test_what_was_written_is_read_again_and_tells_its_version_first(tmp_path):
    write_document(tmp_path / "card.json", CARD)
    assert Card.read(tmp_path / "card.json") == CARD
    assert next(iter(json.loads((tmp_path / "card.json").read_text()).items())) == ("schema", 3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": 2}, "written as schema 2, this release reads schema 3 of its Card"),
        ({"schema": None}, "written as schema None"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"score": "high"}, "score: Input should be a valid number"),
        ({"classes": 7}, "classes: Input should be a valid"),
    ],
)
def test_another_version_or_a_damaged_document_is_refused(tmp_path, change, told):
    path = tmp_path / "card.json"
    write_document(path, CARD)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match="dvc repro") as refused:
        Card.read(path)
    assert str(path) in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "7"])
def test_what_is_no_document_is_refused(tmp_path, text):
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"card\.json: (not valid JSON|written as schema None)"):
        Card.read(path)


def test_findings_of_a_release_that_told_no_version_are_read_and_another_version_is_not(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text('{"epochs": 3, "val_map50_95": 0.5}')
    assert Findings.read(path).values() == {"epochs": 3, "val_map50_95": 0.5}
    write_document(path, Findings.read(path))
    assert json.loads(path.read_text()) == {"schema": 1, "epochs": 3, "val_map50_95": 0.5}
    path.write_text('{"schema": 2, "epochs": 3}')
    with pytest.raises(
        OtherVersionError, match=r"scores\.json: written as schema 2, this release reads schema 1 of its"
    ):
        Findings.read(path)


def test_a_document_that_is_not_there_names_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"card\.json: no such file; `dvc repro` makes it"):
        Card.read(tmp_path / "card.json")
