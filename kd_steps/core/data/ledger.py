"""The ledger of a product's classes: one number a class for ever, whatever comes, goes or is renamed.

PLCs and reports on the line know the number. A ledger is a list of entries that only ever grows: a class is added, gets
another name, or is withdrawn. Its number is its place among the classes added, so that it cannot be given out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

Event = Literal["added", "renamed", "withdrawn"]


class LedgerError(ValueError):
    """A ledger cannot be read so, or must not be changed so; the message names the entry and the mend."""


@dataclass(frozen=True)
class Entry:
    """One line of a ledger.

    Attributes:
        number: of the class.
        event: what happened to it.
        name: that the class has from then on; of a withdrawn one, its last.
        on: the day.
        drop: what brought it: a delivery of data, a source, a command.
    """

    number: int
    event: Event
    name: str
    on: date
    drop: str


@dataclass(frozen=True)
class LedgerClass:
    """What the entries say of one class.

    Attributes:
        number: for ever.
        name: at present.
        added: the day.
        drop: what brought it.
        former_names: that it had before, oldest first.
        withdrawn: the day; None while it is in service.
    """

    number: int
    name: str
    added: date
    drop: str
    former_names: tuple[str, ...] = ()
    withdrawn: date | None = None


@dataclass(frozen=True)
class Ledger:
    """All entries, oldest first, and the classes that follow from them, by number.

    Raises:
        LedgerError: an entry contradicts those before it.
    """

    entries: tuple[Entry, ...] = ()
    classes: tuple[LedgerClass, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        classes: list[LedgerClass] = []
        for entry in self.entries:
            _apply(entry, classes)
        object.__setattr__(self, "classes", tuple(classes))

    def find(self, name: str) -> LedgerClass | None:
        """The class that a name in the data means; None if it never was listed.

        A former name still means its class, so that data need not be written anew after a renaming. Classes in service
        come first, then the last that was withdrawn.
        """
        mine = [c for c in reversed(self.classes) if name in (c.name, *c.former_names)]
        return next((c for c in mine if c.withdrawn is None), mine[0] if mine else None)

    def number(self, name: str) -> int:
        """The number of a class in service, by its present name.

        Raises:
            LedgerError: there is none.
        """
        found = self.find(name)
        if found is None or found.withdrawn or found.name != name:
            raise LedgerError(f"no class '{name}' is in service; `retort classes list` shows them")
        return found.number

    def add(self, names: Iterable[str], on: date, drop: str) -> Ledger:
        """With new classes, each under the next free number. A withdrawn name that comes back is a new class.

        Raises:
            LedgerError: a name is none, or means a class in service.
        """
        ledger = self
        for name in names:
            ledger = Ledger((*ledger.entries, Entry(len(ledger.classes), "added", name, on, drop)))
        return ledger

    def rename(self, old: str, new: str, on: date, drop: str) -> Ledger:
        """With another name for a class in service; its number stays.

        Raises:
            LedgerError: no class in service has the old name, or another goes by the new name.
        """
        return Ledger((*self.entries, Entry(self.number(old), "renamed", new, on, drop)))

    def withdraw(self, name: str, on: date, drop: str) -> Ledger:
        """Without a class from now on; its number stays its own.

        Raises:
            LedgerError: no class in service has the name.
        """
        return Ledger((*self.entries, Entry(self.number(name), "withdrawn", name, on, drop)))


def _apply(entry: Entry, classes: list[LedgerClass]) -> None:
    """Bring the classes up to date with one more entry."""
    if not entry.name.isprintable() or not entry.name or entry.name != entry.name.strip():
        raise LedgerError(f"{entry.name!r} is no class name: printable signs, with no space at either end")
    in_service = [c for c in classes if c.withdrawn is None]
    holder = next((c for c in in_service if entry.name in (c.name, *c.former_names)), None)
    if entry.event == "added":
        _require_free(entry, holder)
        if entry.number != len(classes):
            raise LedgerError(
                f"'{entry.name}' is added with number {entry.number}; the next free one is {len(classes)}"
            )
        classes.append(LedgerClass(entry.number, entry.name, entry.on, entry.drop))
        return
    old = next((c for c in in_service if c.number == entry.number), None)
    if old is None:
        raise LedgerError(f"'{entry.name}' is {entry.event}, but no class in service has number {entry.number}")
    if entry.event == "renamed":
        _require_free(entry, None if holder is old and entry.name != old.name else holder)
        classes[old.number] = replace(old, name=entry.name, former_names=(*old.former_names, old.name))
    elif entry.name == old.name:
        classes[old.number] = replace(old, withdrawn=entry.on)
    else:
        raise LedgerError(f"'{entry.name}' is withdrawn with number {entry.number}, which is '{old.name}'")


def _require_free(entry: Entry, holder: LedgerClass | None) -> None:
    """Refuse a name that means a class in service: data under it would come to mean another one."""
    if holder is None:
        return
    now = "" if holder.name == entry.name else f", which is '{holder.name}' now; data under the old name still mean it"
    raise LedgerError(f"'{entry.name}' is the name of a class in service, number {holder.number}{now}")


def changed_entry(released: Ledger, present: Ledger) -> str | None:
    """What the present ledger says otherwise than a released one did, in words; None if it only adds to it."""
    for place, was in enumerate(released.entries):
        if place >= len(present.entries):
            return f"entry {place + 1} is gone: number {was.number} {was.event} as '{was.name}' on {was.on}"
        if (now := present.entries[place]) != was:
            return (
                f"entry {place + 1} was number {was.number} {was.event} as '{was.name}' on {was.on} ({was.drop}), now "
                f"it is number {now.number} {now.event} as '{now.name}' on {now.on} ({now.drop})"
            )
    return None


@dataclass(frozen=True)
class NamesInService:
    """What a list of class names in the data means.

    Attributes:
        names: the present name of each; of a withdrawn or unlisted one, as the data have it.
        withdrawn: places of those that mean a withdrawn class.
        unlisted: those that the ledger does not know.
    """

    names: tuple[str, ...]
    withdrawn: tuple[int, ...]
    unlisted: tuple[str, ...]


def names_in_service(names: Sequence[str], ledger: Ledger) -> NamesInService:
    """Look class names of the data up in the ledger."""
    found = [ledger.find(name) for name in names]
    return NamesInService(
        names=tuple(name if c is None or c.withdrawn else c.name for name, c in zip(names, found, strict=True)),
        withdrawn=tuple(place for place, c in enumerate(found) if c is not None and c.withdrawn is not None),
        unlisted=tuple(name for name, c in zip(names, found, strict=True) if c is None),
    )


def by_number(names: Iterable[str], ledger: Ledger) -> tuple[str, ...]:
    """Present names of classes in service in the order of their numbers, each once: the order of a network's columns.

    Raises:
        LedgerError: one is not in service.
    """
    return tuple(sorted(set(names), key=ledger.number))
