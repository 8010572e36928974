"""State of the process that one test could leave to the next: what is noted, restored and refused.

Libraries change a process as they work: Ultralytics sets torch's threads at the start of a training, imports set
environment variables and log levels. That is put back silently. What only a test's own code changes, such as the
working directory, and a thread or child process that it leaves running are errors that name it; they are put back, too.

Filters of warnings are put back by pytest itself; what libraries set stands in `library_settings.py`.
This is a plugin of pytest, which ``tests/conftest.py`` names.
"""

import gc
import locale
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from library_settings import SETTINGS

# How variables begin that tests and our code set; all others are those of libraries, at their import or as they work.
TESTS_OWN = (
    "RETORT_",
    "YOLO_",
    "DVC_",
    "PREFECT_",
    "MLFLOW_",
    "HOME",
    "PATH",
    "PYTHONPATH",
    "RANK",
    "WORLD_",
    "MASTER_",
)
PYTESTS_OWN = ("PYTEST_CURRENT_TEST",)
# Not SIGCHLD, which torch takes at its first loader with processes, and for good.
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE)
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "loky.backend.resource_tracker")
GRACE_S = 5.0  # what a test has told to end may still be on its way


@dataclass(frozen=True)
class ProcessState:
    """What a process was set to, and what ran in it, at one moment.

    Attributes:
        settings: name in ``SETTINGS`` → value, of the libraries that had been imported.
        imported: libraries that had been imported and whose import sets something.
        log_levels: the level below which all logs are off, and logger → its level and whether it is off.
        folder: the working directory.
        variables: the environment.
        import_path: ``sys.path``, without what packages put there at their import, for good.
        locale: of all categories, as ``locale.setlocale`` takes it.
        umask: of new files.
        handlers: signal → its handler.
        threads: that ran and that the interpreter's end waits for.
        children: numbers of processes that this one has started and that ran.
    """

    settings: dict[str, Any]
    imported: frozenset[str]
    log_levels: tuple[int, dict[logging.Logger, tuple[int, bool]]]
    folder: str
    variables: dict[str, str]
    import_path: tuple[str, ...]
    locale: str
    umask: int
    handlers: dict[signal.Signals, Any]
    threads: frozenset[threading.Thread]
    children: frozenset[int]


def read_state() -> ProcessState:
    """The state of this process now."""
    root = logging.getLogger()
    loggers = [root, *(one for one in list(root.manager.loggerDict.values()) if isinstance(one, logging.Logger))]
    return ProcessState(
        settings={name: s.read(sys.modules[s.module]) for name, s in SETTINGS.items() if s.module in sys.modules},
        imported=frozenset(s.importer for s in SETTINGS.values() if s.importer in sys.modules),
        log_levels=(root.manager.disable, {one: (one.level, one.disabled) for one in loggers}),
        folder=str(Path.cwd()),
        variables=dict(os.environ),
        import_path=import_path(),
        locale=locale.setlocale(locale.LC_ALL),
        umask=umask(),
        handlers={one: signal.getsignal(one) for one in HANDLED},
        threads=waited_for_threads(),
        children=running_children(),
    )


def restore_settings(before: ProcessState) -> None:
    """Put back, silently, what libraries change.

    A library that was imported since keeps what its import has set. Not torch its threads, which a training sets, too:
    they are then as many as an import of torch takes.
    """
    settings = before.settings
    if "torch" in sys.modules and "torch's threads" not in settings:
        settings = {**settings, "torch's threads": int(os.environ["OMP_NUM_THREADS"])}
    for name, value in settings.items():
        setting = SETTINGS[name]
        if setting.importer not in sys.modules or setting.importer in before.imported:
            setting.write(sys.modules[setting.module], value)
    disabled_below, loggers = before.log_levels
    logging.disable(disabled_below)
    for logger, (level, disabled) in loggers.items():
        if logger.level != level:
            logger.setLevel(level)
        logger.disabled = disabled
    put_back_variables({name: before.variables.get(name) for name in changed_variables(before, library=True)})


def restore_and_tell(before: ProcessState) -> list[str]:
    """Put all back that can be, and give a line on each thing that a test must put back itself and has not."""
    restore_settings(before)
    told = []
    folder = current_folder()
    if folder != before.folder:
        told.append(f"the working directory: {folder}, before {before.folder}")
        os.chdir(before.folder)
    for name in changed_variables(before, library=False):
        told.append(f"the variable {name}: {os.environ.get(name)!r}, before {before.variables.get(name)!r}")
        put_back_variables({name: before.variables.get(name)})
    if (found := import_path()) != before.import_path:
        told.append(f"sys.path: {sorted({*found} ^ {*before.import_path}) or 'another order'}")
        sys.path[:] = before.import_path
    if (now := locale.setlocale(locale.LC_ALL)) != before.locale:
        told.append(f"the locale: {now}, before {before.locale}")
        locale.setlocale(locale.LC_ALL, before.locale)
    if (mask := os.umask(before.umask)) != before.umask:
        told.append(f"the umask: {mask:03o}, before {before.umask:03o}")
    for number, handler in before.handlers.items():
        if (now_handled := signal.getsignal(number)) != handler:
            told.append(f"the handler of {number.name}: {now_handled}, before {handler}")
            signal.signal(number, handler)
    return told + still_running(before)


def still_running(before: ProcessState) -> list[str]:
    """A line on each thread and child process that has been started since and does not end by itself in a while."""
    if waited_for_threads() - before.threads or running_children() - before.children:
        gc.collect()  # pools and loaders end their processes when they go
    until = time.monotonic() + GRACE_S
    while (started := waited_for_threads() - before.threads) or running_children() - before.children:
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    lines = [f"a running thread: {thread.name}" for thread in started]
    for number in running_children() - before.children:
        with suppress(psutil.Error):
            lines.append(f"a running child process: {number}, {' '.join(psutil.Process(number).cmdline())[:200]}")
            psutil.Process(number).kill()
    return lines


def changed_variables(before: ProcessState, library: bool) -> list[str]:
    """Names of environment variables that are set, gone or other since: those of libraries, or all others."""
    names = (before.variables.keys() | os.environ.keys()) - {*PYTESTS_OWN}
    changed = [name for name in names if os.environ.get(name) != before.variables.get(name)]
    return sorted(name for name in changed if name.startswith(TESTS_OWN) != library)


def put_back_variables(values: dict[str, str | None]) -> None:
    """Set each variable to its value, or remove it where that is None."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def import_path() -> tuple[str, ...]:
    """Where modules are looked for, but for folders inside of installed packages."""
    return tuple(place for place in sys.path if "site-packages/" not in place)


def current_folder() -> str:
    """The working directory; where that was deleted, a word on it."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "a folder that is gone"


def umask() -> int:
    """The umask, which the system tells only to who sets it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def waited_for_threads() -> frozenset[threading.Thread]:
    """Running threads that are no daemons; MLflow's upload pool waits idle for as long as MLflow remembers a server."""
    every = (thread for thread in threading.enumerate() if not thread.daemon)
    return frozenset(thread for thread in every if not thread.name.startswith("MlflowMlflowArtifactsRepository"))


def running_children() -> frozenset[int]:
    """Numbers of the processes that this one has started and that run, but for helpers that Python keeps by design."""
    numbers: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            numbers += map(int, (task / "children").read_text().split())
    return frozenset(number for number in numbers if runs(number))


def runs(number: int) -> bool:
    """Whether a child process is alive and none of Python's helpers."""
    try:
        process = psutil.Process(number)
        return process.status() != psutil.STATUS_ZOMBIE and not any(
            name in part for part in process.cmdline() for name in HELPERS
        )
    except psutil.Error:
        return False


@pytest.fixture(autouse=True)
def process_left_as_found(request):
    """After every test, put the process back as it was before; what a test must put back itself is an error of it."""
    before = read_state()
    yield
    told = restore_and_tell(before)
    if told:
        pytest.fail(f"{request.node.nodeid} leaves behind\n" + "\n".join(told), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    """Keep what libraries change in the making of a fixture from the tests; its own context may last."""
    if fixturedef.scope == "function":
        return (yield)
    before = read_state()
    try:
        return (yield)
    finally:
        restore_settings(before)
