"""A number is given out once and stays with its class, whatever is added, renamed or withdrawn."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.data.ledger import Entry, Ledger, LedgerError, by_number, changed_entry, names_in_service

DAY = date(2026, 11, 29)
NAMES = st.sampled_from(["a", "b", "c", "d", "Größe 3"])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NAMES),
        st.tuples(st.just("withdraw"), NAMES),
        st.tuples(st.just("rename"), NAMES, NAMES),
    ),
    max_size=25,
)


def ledger_of(*names: str) -> Ledger:
    return Ledger().add(names, DAY, "first")


def after(ledger: Ledger, action: tuple[str, ...]) -> Ledger:
    what, *names = action
    if what == "add":
        return ledger.add(names, DAY, "next")
    return getattr(ledger, what)(*names, DAY, "next")


@given(ACTIONS)
def test_no_sequence_renumbers_a_class_or_gives_a_number_out_again(actions):
    ledger, identity = Ledger(), {}  # number → the entry that added it, kept beside the ledger
    for action in actions:
        before = ledger
        try:
            ledger = after(ledger, action)
        except LedgerError:
            continue
        assert ledger.entries[:-1] == before.entries, "only a line is added"
        assert changed_entry(before, ledger) is None
        newest = ledger.entries[-1]
        if newest.event == "added":
            assert newest.number not in identity, "given out again"
            identity[newest.number] = newest
        assert [c.number for c in ledger.classes] == sorted(identity) == list(range(len(identity)))
        assert all((c.added, c.drop) == (identity[c.number].on, identity[c.number].drop) for c in ledger.classes)
        old = {c.number: c for c in before.classes}
        for now in ledger.classes:
            was = old.get(now.number)
            assert was is None or now.number == newest.number or now == was, "another class changed, too"
            assert was is None or was.withdrawn is None or now == was, "withdrawn is for ever"
        in_service = [c for c in ledger.classes if c.withdrawn is None]
        meant = [name for c in in_service for name in {c.name, *c.former_names}]
        assert len(meant) == len(set(meant)), "a name of the data means two classes"
        assert all(ledger.find(name).number == c.number for c in in_service for name in (c.name, *c.former_names))


@given(ACTIONS, st.data())
def test_any_edit_of_an_entry_is_told(actions, data):
    ledger = ledger_of("z")
    for action in actions:
        try:
            ledger = after(ledger, action)
        except LedgerError:
            continue
    entries = list(ledger.entries)
    place = data.draw(st.integers(0, len(entries) - 1))
    was = entries[place]
    changed = data.draw(
        st.sampled_from([
            None,
            Entry(was.number + 1, was.event, was.name, was.on, was.drop),
            Entry(was.number, was.event, was.name + "x", was.on, was.drop),
            Entry(was.number, was.event, was.name, was.on.replace(year=2027), was.drop),
            Entry(was.number, was.event, was.name, was.on, "another"),
        ])
    )  # fmt: skip
    entries[place : place + 1] = [] if changed is None else [changed]
    try:
        edited = Ledger(tuple(entries))
    except LedgerError:
        return
    assert f"entry {place + 1} " in (changed_entry(ledger, edited) or "")


def test_a_withdrawn_name_that_comes_back_is_a_new_class():
    ledger = ledger_of("whisker", "fuse").withdraw("whisker", DAY, "line 2").add(["whisker"], DAY, "line 3")
    assert [(c.number, c.name, c.withdrawn) for c in ledger.classes] == [
        (0, "whisker", DAY),
        (1, "fuse", None),
        (2, "whisker", None),
    ]
    assert ledger.find("whisker").number == ledger.number("whisker") == 2


def test_a_former_name_means_its_class_until_that_is_withdrawn():
    ledger = ledger_of("fuze", "fuse holder").rename("fuze", "fuse", DAY, "typing")
    assert (ledger.find("fuze").number, ledger.find("fuze").name) == (0, "fuse")
    with pytest.raises(LedgerError, match="'fuze' is the name of a class in service, number 0, which is 'fuse' now"):
        ledger.add(["fuze"], DAY, "x")
    assert ledger.rename("fuse", "fuze", DAY, "back").classes[0].former_names == ("fuze", "fuse")
    withdrawn = ledger.withdraw("fuse", DAY, "x")
    assert withdrawn.find("fuze").withdrawn == DAY
    assert withdrawn.add(["fuze"], DAY, "x").find("fuze").number == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda old: old.add(["a"], DAY, "x"), "'a' is the name of a class in service, number 0$"),
        (lambda old: old.add(["c", "c"], DAY, "x"), "'c' is the name of a class in service, number 2$"),
        (lambda old: old.add([" c"], DAY, "x"), "' c' is no class name"),
        (lambda old: old.add(["c\nd"], DAY, "x"), "is no class name"),
        (lambda old: old.add([""], DAY, "x"), "is no class name"),
        (lambda old: old.withdraw("c", DAY, "x"), "no class 'c' is in service; `retort classes list`"),
        (lambda old: old.withdraw("a", DAY, "x").withdraw("a", DAY, "x"), "no class 'a' is in service"),
        (lambda old: old.withdraw("a", DAY, "x").rename("a", "c", DAY, "x"), "no class 'a' is in service"),
        (lambda old: old.rename("a", "b", DAY, "x"), "'b' is the name of a class in service, number 1$"),
        (lambda old: old.rename("a", "a", DAY, "x"), "'a' is the name of a class in service, number 0$"),
        (lambda old: Ledger((*old.entries, Entry(3, "added", "c", DAY, "x"))), "number 3; the next free one is 2"),
        (lambda old: Ledger((*old.entries, Entry(1, "added", "c", DAY, "x"))), "number 1; the next free one is 2"),
        (lambda old: Ledger((*old.entries, Entry(2, "withdrawn", "a", DAY, "x"))), "no class in service has number 2"),
        (lambda old: Ledger((*old.entries, Entry(1, "withdrawn", "a", DAY, "x"))), "number 1, which is 'b'"),
    ],
)
def test_what_would_give_a_number_two_meanings_is_refused(change, message):
    with pytest.raises(LedgerError, match=message):
        change(ledger_of("a", "b"))


def test_names_of_the_data_are_looked_up():
    ledger = ledger_of("a", "b", "c").rename("a", "A", DAY, "x").withdraw("b", DAY, "x")
    found = names_in_service(["c", "a", "b", "new"], ledger)
    assert (found.names, found.withdrawn, found.unlisted) == (("c", "A", "b", "new"), (2,), ("new",))
    assert by_number(["c", "A", "c"], ledger) == ("A", "c")
    with pytest.raises(LedgerError, match="no class 'b' is in service"):
        by_number(["b"], ledger)
