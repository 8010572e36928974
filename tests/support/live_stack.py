"""A stack that runs as a user runs it: `retort stack` in a project's folder, a process of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from flows.stack.place import StackError
from flows.stack.programs import postgres_folder

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 400.0  # a busy machine takes minutes for what takes twenty seconds


def without_postgres() -> bool:
    """Whether this machine lacks PostgreSQL: Debian's package ``postgresql``, which `.ci/run` installs."""
    try:
        postgres_folder()
    except StackError:
        return True
    return False


NEEDS_POSTGRES = pytest.mark.skipif(without_postgres(), reason="no PostgreSQL here: apt-get install postgresql")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach, which pytest's own, of mode 0700, is not."""
    folder = Path(tempfile.mkdtemp(prefix="retort-stack-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class LiveStack:
    """A stack that runs, and what it says."""

    root: Path
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.root / ".retort/stack"

    @property
    def variables(self) -> dict[str, str]:
        return exports(self.folder / "env")

    def prefect(self, method: str, path: str, **more: Any) -> Any:
        """An answer of Prefect's API."""
        given = self.variables
        user, _, word = given["PREFECT_API_AUTH_STRING"].partition(":")
        answer = requests.request(method, given["PREFECT_API_URL"] + path, auth=(user, word), timeout=60, **more)
        answer.raise_for_status()
        return answer.json()

    def mlflow(self, path: str, **values: Any) -> Any:
        """An answer of MLflow's API."""
        given = self.variables
        user = (given["MLFLOW_TRACKING_USERNAME"], given["MLFLOW_TRACKING_PASSWORD"])
        address = f"{given['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/{path}"
        answer = requests.get(address, params=values, auth=user, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def part(self, *words: str) -> psutil.Process:
        """The process of a part, by words of its command line."""
        (found,) = [
            one
            for one in psutil.Process(self.process.pid).children()
            if one.is_running() and all(any(word in told for told in one.cmdline()) for word in words)
        ]
        return found

    def kill(self, name: str, *words: str) -> None:
        """Kill a part, and wait until the stack says that it answers again."""
        before = self.said.count(f"{name} answers again")
        self.part(*words).send_signal(signal.SIGKILL)
        wait_for(lambda: self.said.count(f"{name} answers again") > before, f"{name} to answer again: {self.said}")

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE_S)


@contextmanager
def live_stack(root: Path, *arguments: str) -> Iterator[LiveStack]:
    """Start a stack, wait until all of it answers, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "stack", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    stack = LiveStack(root, process)
    listener = threading.Thread(target=_listen, args=(stack,))
    listener.start()
    try:
        wait_for(lambda: "Ctrl-C ends all." in stack.said or process.poll() is not None, "the stack")
        assert process.poll() is None, "\n".join(stack.said)
        yield stack
    finally:
        if process.poll() is None:
            stack.end()
        listener.join()
        process.stdout.close()


def _listen(stack: LiveStack) -> None:
    for line in stack.process.stdout:
        stack.said.append(line.strip().partition(" ")[2] if line[:2].isdecimal() else line.strip())


def exports(path: Path) -> dict[str, str]:
    """The variables of a file of `export` lines."""
    pairs = (shlex.split(line)[1].partition("=") for line in path.read_text().splitlines())
    return {name: value for name, _, value in pairs}


def wait_for(happened: Any, what: str, seconds: float = PATIENCE_S) -> Any:
    """Wait until something is true, and give it back."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
