"""One writer a stage: on one machine, in containers that share a volume, and on a network file system.

A hold is a lease (:class:`filelock.SoftFileLease`): a file that its holder touches every few seconds. A dead holder on
this machine is seen at once; any other is dead when its file has not changed for :data:`LEASE_S` seconds of our own
clock, so that clocks of several machines need not agree.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from kd_steps.running import progress
from kd_steps.running.parent import end_this_process

LEASE_S = 30.0
POLL_S = 0.5


class HeldError(ValueError):
    """Another process runs this stage; the message says who, since when, and how to end it."""


@contextmanager
def held(root: Path, stage: str, lease_s: float = LEASE_S) -> Iterator[None]:
    """Hold a stage for this process, and keep its note of progress, until the block ends.

    Raises:
        HeldError: another process runs it.
        OSError: the project's folder cannot be written.
    """
    folder = root / progress.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(
        folder / f"{stage}.lock",
        lease_duration=lease_s,
        on_compromise=lambda lost: _lost(stage, lost),
        thread_local=False,
        poll_interval=POLL_S,
    )
    _acquire(lease, root, stage, lease_s)
    try:
        progress.begin(root, stage)
        yield
    finally:
        progress.end()
        lease.release()


def running(root: Path) -> list[progress.Note]:
    """The stages that run now, as their notes say.

    Only reads, so that it works for anybody who can read the folder.
    """
    return [note for note, silent_s in notes(root) if is_heard(silent_s)]


def is_heard(silent_s: float) -> bool:
    """Whether a stage runs that has not been heard from for so long."""
    return abs(silent_s) < 2 * LEASE_S


def notes(root: Path) -> list[tuple[progress.Note, float]]:
    """Every note of a stage, and for how many seconds of this machine's clock it has not been heard from.

    A stage that was killed leaves its note until the next run. One that runs on a machine whose clock is another seems
    to have been silent for long, or to speak from the future: who reads is to be told of it.
    """
    found = []
    for path in sorted((root / progress.FOLDER).glob("*.json")):
        note, lock = progress.read_note(path), path.with_suffix(".lock")
        with suppress(FileNotFoundError):
            if note is not None:
                found.append((note, time.time() - lock.stat().st_mtime))
    return found


def _acquire(lease: SoftFileLease, root: Path, stage: str, lease_s: float) -> None:
    """Take the lease, at once or when its holder is found dead; refuse as soon as it is seen alive."""
    path = Path(lease.lock_file)
    first = _touched(path)
    deadline = time.monotonic() + lease_s + 4 * POLL_S
    asked = False
    while True:
        try:
            lease.acquire(timeout=0)
        except Timeout:
            alive = _touched(path) not in (first, None)
            if alive or time.monotonic() > deadline:
                raise _held_by(root, stage) from None
        else:
            return
        if not asked:
            note = progress.read_note(progress.note_path(root, stage))
            print(f"{stage}: waiting to see whether {note.who() if note else 'its writer'} is alive", flush=True)
            asked = True
        time.sleep(POLL_S)


def _touched(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _held_by(root: Path, stage: str) -> HeldError:
    note = progress.read_note(progress.note_path(root, stage))
    if note is None:
        return HeldError(f"stage {stage} is held by another process, which wrote no note; {root / progress.FOLDER}")
    far = f" ({note.how_far()})" if note.of else ""
    return HeldError(
        f"stage {stage} is being run by {note.who()}{far}. Wait for it, or end it there with `kill -INT {note.pid}`; "
        f"what it has finished is kept. If that machine is gone, run again in {LEASE_S:.0f} seconds"
    )


def _lost(stage: str, lost: LeaseCompromise) -> None:
    """Another process took this stage over, or its folder is gone: stop writing, at once."""
    print(
        f"error: stage {stage} is no longer held by this process ({lost.reason}): it stood still for more than "
        f"{LEASE_S:.0f} s, or {lost.lock_file} was removed; it ends, so that the stage has one writer",
        file=sys.stderr,
        flush=True,
    )
    end_this_process()
