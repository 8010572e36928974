"""One DVC stage as a child process: its lines as they come, its end with ours, and what kind of failure it was."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from flows.faults import Asks, fault_in

TAIL_LINES = 60
PROGRESS_EVERY_S = 5.0
GRACE_S = 10.0


class StageFailedError(RuntimeError):
    """The stage itself failed: a second try would fail as well. The message is the stage's own."""


class InfrastructureError(RuntimeError):
    """A disk, a server or a killed process made the stage fail; a second try may succeed."""


class BusyError(InfrastructureError):
    """What the stage needs is taken: by another process, or a disk is full. It is worth waiting for."""


def reproduce(root: Path, stage: str, force: bool, timeout_s: float | None, say: Callable[[str], None]) -> list[str]:
    """Run ``dvc repro -s`` on one stage; its lines go to ``say`` as they come, progress bars every few seconds.

    The child stays in our process group, which Prefect's runner kills as a whole. Where only this process is told to
    end, the child and all it started are ended before the exception goes on; where it is killed, they end themselves.

    Returns:
        The last lines.

    Raises:
        StageFailedError: the stage failed, or a person must act.
        BusyError: it has to wait for another process, or for a full disk.
        InfrastructureError: what it runs on failed, or the stage took longer than ``timeout_s``.
    """
    dvc = [sys.executable, "-m", "flows.tied", str(os.getpid()), "dvc"]
    command = [*dvc, "--wait-for-lock", "repro", "-s", *(["--force"] if force else []), stage]
    # `python` in dvc.yaml has to be this one, also where the virtual environment was not activated.
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    child = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    with _ended_with_us(child), _watched(child, timeout_s) as timed_out:
        for line in _lines(child):
            tail.append(line)
            say(line)
        code = child.wait()
    if timed_out.is_set():
        raise InfrastructureError(f"{stage}: took longer than its timeout_s of {timeout_s:g} s (meta in dvc.yaml)")
    if code:
        raise _failure(stage, tail, code)
    return list(tail)


def _failure(stage: str, tail: deque[str], code: int) -> RuntimeError:
    """The error of a failed stage: its own words, what kind of fault they tell of, and the mend."""
    reason = f"{stage}: {_reason(tail, code)}"
    fault = fault_in("\n".join([*tail, f"exit code {code}"]))
    if fault is None:
        return StageFailedError(reason)
    kinds = {Asks.ANOTHER_TRY: InfrastructureError, Asks.A_WAIT: BusyError, Asks.A_PERSON: StageFailedError}
    return kinds[fault.asks](f"{reason}\n({fault})")


def end_tree(process: subprocess.Popen[str], grace_s: float = GRACE_S) -> None:
    """End a child and everything it started: asked by SIGINT, as Ctrl-C would, then killed; a second Ctrl-C kills."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        _send(member, signal.SIGINT)
    try:
        psutil.wait_procs(family, timeout=grace_s)
    finally:
        for member in family:
            _send(member, signal.SIGKILL)
        process.wait()


@contextmanager
def _ended_with_us(child: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if child.poll() is None:
            end_tree(child)
        if child.stdout:
            child.stdout.close()


@contextmanager
def _watched(child: subprocess.Popen[str], timeout_s: float | None) -> Iterator[threading.Event]:
    """End the child after ``timeout_s``: Prefect's own time limit would wait for the read that blocks."""
    passed = threading.Event()

    def end() -> None:
        passed.set()
        end_tree(child)

    watch = threading.Timer(timeout_s, end) if timeout_s else None
    if watch:
        watch.start()
    try:
        yield passed
    finally:
        if watch:
            watch.cancel()


def _lines(child: subprocess.Popen[str]) -> Iterator[str]:
    """Lines of the output; of a progress bar, which rewrites its line, only one every few seconds."""
    assert child.stdout is not None
    child.stdout.reconfigure(newline="")  # type: ignore[attr-defined]  # keep "\r", which marks a rewritten line
    shown_at = -PROGRESS_EVERY_S
    for raw in child.stdout:
        line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw).strip()
        if not line:
            continue
        if raw.endswith("\r"):
            if time.monotonic() - shown_at < PROGRESS_EVERY_S:
                continue
            shown_at = time.monotonic()
        yield line


def _reason(tail: deque[str], code: int) -> str:
    """The stage's own ``error:`` block; without one the last lines."""
    lines = list(tail)
    starts = [n for n, line in enumerate(lines) if line.startswith("error:")]
    if not starts:
        return f"exit code {code}\n" + "\n".join(lines[-12:])
    block = []
    for line in lines[starts[-1] :]:
        if line.startswith(("(RETORT_TRACEBACK", "ERROR:")):
            break
        block.append(line)
    return "\n".join(block).removeprefix("error: ")


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
