"""How far a running stage is: a small file that any reader of the project's folder can open."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(".retort/running")
OF_THE_STAGE = "RETORT_STAGE_NOTE"  # variable: the note of the stage that started this process
EVERY_S = 1.0  # a note is written at most this often; the last one of a stage always


@dataclass(frozen=True)
class Note:
    """What a running stage says of itself.

    Attributes:
        stage: its name, as in dvc.yaml.
        user: who started it.
        host: where.
        pid: its process there, as that host or container counts.
        since: when it began, ISO 8601, UTC.
        done: how much of ``of`` is done.
        of: how much there is to do; 0 while the stage has not said.
        unit: what is counted.
        left_s: seconds that are left at the speed so far, None while nothing is done.
    """

    stage: str
    user: str
    host: str
    pid: int
    since: str
    done: int = 0
    of: int = 0
    unit: str = ""
    left_s: float | None = None

    def who(self) -> str:
        """The one who runs it, in words."""
        return f"{self.user} on {self.host}, process {self.pid}, since {self.since}"

    def how_far(self) -> str:
        """What is done and what is left, in words; empty where the stage has not said."""
        if not self.of:
            return ""
        left = "" if self.left_s is None else f", about {_duration(self.left_s)} left"
        return f"{self.done} of {self.of} {self.unit}{left}"


class _Teller:
    """The note of this process's stage, and when its work and its last note were."""

    def __init__(self, path: Path, note: Note) -> None:
        self.path, self.note = path, note
        self.began: float | None = None
        self.began_at = 0
        self.written_at = -EVERY_S

    def tell(self, done: int, of: int, unit: str) -> None:
        now = time.monotonic()
        if self.began is None or unit != self.note.unit or done < self.note.done:
            self.began, self.began_at = now, done
        work = done - self.began_at
        left_s = (now - self.began) / work * (of - done) if work else None
        self.note = replace(self.note, done=done, of=of, unit=unit, left_s=left_s)
        if done == of or now - self.written_at >= EVERY_S:
            self.write()

    def write(self) -> None:
        self.written_at = time.monotonic()
        torn = self.path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # a full disk: what is told of the work must not end the work
            torn.write_text(json.dumps(asdict(self.note)) + "\n", encoding="utf-8")
            torn.replace(self.path)


_teller: _Teller | None = None


def begin(root: Path, stage: str) -> None:
    """Say that this process runs a stage; :func:`tell` and :func:`end` are about it from now on."""
    global _teller
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note = Note(stage, _user(), socket.gethostname(), os.getpid(), now)
    _teller = _Teller(note_path(root, stage).resolve(), note)
    _teller.write()
    os.environ[OF_THE_STAGE] = str(_teller.path)


def tell(done: int, of: int, unit: str) -> None:
    """Say that ``done`` of ``of`` are done, such as 3 of 17 epochs; without a stage nobody asks, and nothing is said.

    A process that a stage started, such as one of several that train, speaks for the stage.
    """
    global _teller
    if _teller is None and (path := os.environ.get(OF_THE_STAGE)) and (note := read_note(Path(path))):
        _teller = _Teller(Path(path), note)
    if _teller is not None:
        _teller.tell(done, of, unit)


def end() -> None:
    """The stage has ended; its note goes, but not that of a process that took the stage over."""
    global _teller
    if _teller is not None and (note := read_note(_teller.path)) and note.who() == _teller.note.who():
        with suppress(OSError):
            _teller.path.unlink(missing_ok=True)
    os.environ.pop(OF_THE_STAGE, None)
    _teller = None


def note_path(root: Path, stage: str) -> Path:
    """Where the note of a stage lies."""
    return root / FOLDER / f"{stage}.json"


def read_note(path: Path) -> Note | None:
    """A note, or None where there is none, or one that no release like this wrote."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Note(**{field.name: values[field.name] for field in fields(Note)})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _user() -> str:
    """The user's name; in a container, there may be none for the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
