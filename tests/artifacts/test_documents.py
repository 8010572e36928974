"""Documents that stages hand on: written, read again, and refused where they are another version or damaged."""

import json

import pytest

from kd_steps.adapters.files import write_document
from kd_steps.artifacts import Document


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


def test_a_document_that_is_not_there_names_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"card\.json: no such file; `dvc repro` makes it"):
        Card.read(tmp_path / "card.json")
