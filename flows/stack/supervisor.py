"""Parts of a stack are started, watched, started again when they die, and ended in order, as a service manager does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.stack.place import StackError

READY_S = 600.0  # the first start fills databases, and the machine may be busy
LOOK_EVERY_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STEADY_S = 60.0  # after so long a life, a death is a new one
EARLY_DEATHS = 3  # a part that has never answered is given up after so many
END_S = 60.0
TAIL_LINES = 12


@dataclass(frozen=True)
class Part:
    """A program of the stack.

    Attributes:
        name: as people and logs call it.
        command: how it is started; it ends with this process, however that ends.
        answers: whether it is ready.
        environment: its variables beside ours, among them its passwords, which a command line would show to all.
        once_ready: what is done each time that it has become ready.
        ends_by: the signal that ends it in peace.
        children_first: whether what it runs is ended before it, so that it can still say what became of that.
        lost: what its death has lost, in words; empty where nothing.
    """

    name: str
    command: Sequence[str]
    answers: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    once_ready: Callable[[], None] = lambda: None
    ends_by: signal.Signals = signal.SIGTERM
    children_first: bool = False
    lost: str = ""


@dataclass
class Running:
    """A part's process, and what became of those before it."""

    part: Part
    log: Path
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    was_ready: bool = False
    started_at: float = 0.0
    start_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    deaths: int = 0


def bring_up(parts: Sequence[Part], root: Path, logs: Path, say: Callable[[str], None]) -> list[Running]:
    """Start parts and wait until all of them answer.

    Raises:
        StackError: one of them ends again and again before it has answered, or does not answer; they are ended.
    """
    logs.mkdir(parents=True, exist_ok=True)
    running = [Running(part, logs / f"{part.name.lower().replace(' ', '_')}.log") for part in parts]
    deadline = time.monotonic() + READY_S
    try:
        while not all(one.ready for one in running):
            for one in running:
                tend(one, root, say)
                if not one.was_ready and (one.deaths >= EARLY_DEATHS or time.monotonic() > deadline):
                    raise StackError(_never_answered(one))
            time.sleep(LOOK_EVERY_S)
    except BaseException:
        end(running, say)
        raise
    return running


def tend(one: Running, root: Path, say: Callable[[str], None]) -> None:
    """One look at a part: start it when it is due, see whether it answers now, or note its death."""
    now = time.monotonic()
    if one.process is None:
        if now >= one.start_at:
            _start(one, root)
    elif one.process.poll() is not None:
        _bury(one, now, say)
    elif not one.ready and one.part.answers():
        one.part.once_ready()
        one.ready = True
        if one.was_ready:
            say(f"{one.part.name} answers again")
        one.was_ready = True


def end(running: Sequence[Running], say: Callable[[str], None]) -> None:
    """End parts, the last started first, each in peace before the next; a second Ctrl-C ends one by force."""
    for one in reversed(running):
        if one.process is None:
            continue
        if one.process.poll() is None:
            say(f"ending {one.part.name}")
            with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                if one.part.children_first:
                    _end_children(one.process)
                one.process.send_signal(one.part.ends_by)
                one.process.wait(timeout=END_S)
        _kill_group(one.process)
        one.process = None


def _start(one: Running, root: Path) -> None:
    environment = {**os.environ, **one.part.environment}
    with one.log.open("ab") as log:
        # A session of its own: Ctrl-C in the terminal is for us, who end the parts in order.
        one.process = subprocess.Popen(
            one.part.command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    one.started_at = time.monotonic()


def _bury(one: Running, now: float, say: Callable[[str], None]) -> None:
    """Tell a part's death, and when it is started again; what it left of its family would hold its port."""
    assert one.process is not None
    code = one.process.returncode
    _kill_group(one.process)
    if now - one.started_at > STEADY_S:
        one.pause_s = FIRST_PAUSE_S
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    lost = f"; {one.part.lost}" if one.part.lost and one.was_ready else ""
    say(f"{one.part.name} ended {how}{lost}; it is started again in {one.pause_s:.0f} s; its log: {one.log}")
    one.process, one.ready, one.deaths = None, False, one.deaths + 1
    one.start_at = now + one.pause_s
    one.pause_s = min(2 * one.pause_s, LONGEST_PAUSE_S)


def _end_children(process: subprocess.Popen[bytes]) -> None:
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        psutil.wait_procs(children, timeout=END_S)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _never_answered(one: Running) -> str:
    lines = one.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    said = "\n  ".join(lines) or "nothing"
    return f"{one.part.name} does not start; see {one.log}. Its last lines:\n  {said}"
