"""A process that ends with the one that started it, however that ended: no orphan goes on writing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

LOOK_EVERY_S = 1.0
GRACE_S = 10.0
SHELLS = {"sh", "dash", "bash", "zsh", "fish", "ksh", "busybox"}


def end_with_dvc() -> None:
    """End this process when the ``dvc`` that runs it as a stage is gone; without one, do nothing."""
    if "DVC_STAGE" not in os.environ:
        return
    for ancestor in psutil.Process().parents():
        if ancestor.name() not in SHELLS:  # DVC starts a stage by a shell, which may stay between
            end_with(ancestor)
            return


def end_with(parent: psutil.Process, and_then: Callable[[], None] | None = None) -> None:
    """Watch a process from a thread; when it has ended, end our own children and this process.

    Args:
        parent: the process to end with.
        and_then: what to do instead of ending.
    """
    threading.Thread(target=_watch, args=(parent, and_then or _end), name="ends-with-its-parent", daemon=True).start()


def _watch(parent: psutil.Process, and_then: Callable[[], None]) -> None:
    while _lives(parent):
        time.sleep(LOOK_EVERY_S)
    and_then()


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _end() -> None:
    """Our children are asked first, as Ctrl-C would ask all of them; who does not hear is killed."""
    with suppress(OSError, ValueError):  # what we say may go nowhere: the pipe's other end died
        print("the process that started this one is gone: it ends, too", file=sys.stderr, flush=True)
    threading.Timer(GRACE_S, _kill).start()
    for child in _children():
        with suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)


def _kill() -> None:
    for child in _children():
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


def _children() -> list[psutil.Process]:
    return list(psutil.Process().children(recursive=True))
