"""A process that ends with the one that started it, however that ended: no orphan goes on writing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
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


def end_with(parent: psutil.Process) -> None:
    """Watch a process from a thread; when it has ended, end our own children and this process."""
    threading.Thread(target=_watch, args=(parent,), name="ends-with-its-parent", daemon=True).start()


def end_this_process() -> None:
    """End this process from any of its threads, its children with it.

    All are asked first, as Ctrl-C would ask them; who does not hear is killed.
    """
    threading.Timer(GRACE_S, _kill).start()
    for child in _children():
        with suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)


def _watch(parent: psutil.Process) -> None:
    while _lives(parent):
        time.sleep(LOOK_EVERY_S)
    with suppress(OSError, ValueError):  # what we say may go nowhere: the pipe's other end died
        print("the process that started this one is gone: it ends, too", file=sys.stderr, flush=True)
    end_this_process()


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _kill() -> None:
    for child in _children():
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


def _children() -> list[psutil.Process]:
    return list(psutil.Process().children(recursive=True))
