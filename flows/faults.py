"""What a stage's failure asks for: another try, a wait, or a person. One table, read by the flow and by its tests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Asks(Enum):
    """What a fault asks for."""

    ANOTHER_TRY = "try again"
    A_WAIT = "wait"
    A_PERSON = "a person must act"


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: what it is, in a few words.
        asks: what it asks for.
        told: a regular expression on what the stage and DVC print; case does not count.
        mend: what a person can do.
    """

    name: str
    asks: Asks
    told: str
    mend: str

    def __str__(self) -> str:
        return f"{self.name}: {self.mend}"


# The first that fits counts: what says most about the cause stands first.
FAULTS = (
    Fault(
        "another process runs this stage",
        Asks.A_WAIT,
        r"stage \S+ is being run by|is held by another process|another process is writing there",
        "wait for it, or end it as the message says",
    ),
    Fault(
        "DVC is at work in this project",
        Asks.A_WAIT,
        r"unable to acquire (the )?lock|is busy, it is being blocked",
        "wait for the other `dvc` or `retort run`; `retort status` shows it",
    ),
    Fault(
        "the disk is full",
        Asks.A_WAIT,
        r"no space left on device|disk quota exceeded|database or disk is full",
        "make room; `dvc gc --workspace` removes what the workspace does not use",
    ),
    Fault(
        "a folder is read-only",
        Asks.A_PERSON,
        r"read-only( file system|:? for user)|attempt to write a readonly database|permission denied",
        "give this user the right to write, or mount the disk for writing",
    ),
    Fault(
        "a server does not know us",
        Asks.A_PERSON,
        r"(error|status|code)\D{0,12}40[13]\b|unauthorized|forbidden|authentication failed|nocredentials|"
        r"invalid credentials|does not accept the credentials|asks for credentials|does not permit this",
        "set the server's user and password as variables; `retort doctor` shows who we are to which server",
    ),
    Fault(
        "a database is locked",
        Asks.ANOTHER_TRY,
        r"database is locked|database table is locked|deadlock detected",
        "it is free again soon; many writers want a server: MLFLOW_TRACKING_URI",
    ),
    Fault(
        "a server does not answer",
        Asks.ANOTHER_TRY,
        r"connection (refused|reset|aborted|timed out)|server closed the connection|terminating connection|"
        r"the database system is (starting up|shutting down|in recovery mode)|temporary failure in name resolution|"
        r"network is unreachable|max retries exceeded|read timed out|(error|status|code)\D{0,12}50[234]\b|"
        r"failed to (pull|push|fetch) data",
        "see whether it runs and can be reached from here",
    ),
    Fault(
        "the disk has a fault",
        Asks.ANOTHER_TRY,
        r"input/output error|stale file handle|too many open files",
        "see the kernel's log (`dmesg`), or the server of the network folder",
    ),
    # A process ended by SIGBUS, SIGKILL or SIGTERM is -7, -9, -15 where the shell gave way to it, 135, 137, 143 where
    # the shell waited; `exit code` is how this flow tells of DVC itself.
    Fault(
        "a process was killed",
        Asks.ANOTHER_TRY,
        r"(exited with|exit code) (-7|-9|-15|135|137|143)\b|ended by signal (7|9|15)\b",
        "most often for want of memory: see `dmesg`, or take a smaller batch",
    ),
)


def fault_in(text: str) -> Fault | None:
    """The kind of fault that a stage's last lines tell of, or None for a failure of the stage's own."""
    return next((fault for fault in FAULTS if re.search(fault.told, text, re.IGNORECASE)), None)
