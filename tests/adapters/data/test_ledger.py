"""The ledger as a file: what was written is read again, and damage is named with its line."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.adapters.data.ledger import load_ledger, read_ledger, write_ledger
from kd_steps.artifacts import paths
from kd_steps.core.data.ledger import Ledger, LedgerError

DAY = date(2026, 11, 29)
SMALL = Ledger().add(["bridge", "missing"], DAY, "source yolo").withdraw("bridge", DAY, "line 4, shift B")
TEXT = """number,event,name,on,drop
0,added,bridge,2026-11-29,source yolo
1,added,missing,2026-11-29,source yolo
0,withdrawn,bridge,2026-11-29,"line 4, shift B"
"""
PRINTABLE = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda s: s.isprintable() and s == s.strip() and s)


def test_a_line_an_entry_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = paths.ledger("demo")
    write_ledger(path, SMALL)
    assert path.read_text() == TEXT
    assert load_ledger("demo") == SMALL
    assert [p.name for p in path.parent.iterdir()] == ["demo.csv"], "no temporary file is left"


@given(names=st.lists(PRINTABLE, unique=True, max_size=5), drop=st.text(st.characters(codec="utf-8")))
def test_every_name_is_read_as_it_was_written(tmp_path_factory, names, drop):
    path = tmp_path_factory.mktemp("ledger") / "demo.csv"
    ledger = Ledger().add(names, DAY, " ".join(drop.split()))
    write_ledger(path, ledger)
    assert read_ledger(path) == ledger


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("1,added,missing", "1,added", "line 3: expected 5 fields"),
        ("1,added", "2,added", "line 3: 'missing' is added with number 2; the next free one is 1"),
        ("1,added,missing", "1,added,bridge", "line 3: 'bridge' is the name of a class in service, number 0"),
        ("0,withdrawn", "7,withdrawn", "line 4: 'bridge' is withdrawn, but no class in service has number 7"),
        ("withdrawn", "gone", "line 4: event 'gone' is none of added, renamed, withdrawn"),
        ("1,added", "one,added", "line 3: invalid literal for int"),
        ("2026-11-29,source yolo\n1", "29.11.2026,source yolo\n1", "line 2: Invalid isoformat"),
        ("number,event", "event,number", "line 1: expected number,event,name,on,drop"),
        ('B"', "B", "not a table"),
        (TEXT, "", "line 1: expected number,event"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, old, new, told):
    path = tmp_path / "demo.csv"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(LedgerError, match="restore it from git") as caught:
        read_ledger(path)
    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)


def test_a_product_without_a_ledger_is_told_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"demo\.csv: 'demo' has no ledger .* `retort classes add --from-sour"):
        load_ledger("demo")
