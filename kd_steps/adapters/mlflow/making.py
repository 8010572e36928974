"""Requests that make something: sent once, and where the answer stays away, looked for before they are sent again.

MLflow's client repeats a request that was not answered in time. One that makes a run or a version makes a second then,
for a slow server has done what it was asked, only later.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

T = TypeVar("T")

RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
# A server that does not answer would hold a stage for minutes with MLflow's defaults.
DEFAULTS = {RETRIES: "2", TIMEOUT: "3"}
QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
_UPLOAD_TIMEOUT_S = 60
TRIES = 3
LOOKS = 3  # time-outs that a late request is waited for
PAUSE_S = 0.5


@contextmanager
def settings() -> Iterator[None]:
    """MLflow gives up soon and prints nothing, where the user has not said otherwise."""
    with ExitStack() as stack:
        for name, value in (DEFAULTS | QUIET).items():
            if name not in os.environ:
                stack.enter_context(_variable(name, value))
        yield


def patience_s() -> float:
    """How long something that was asked for may take to appear, seconds."""
    return LOOKS * float(os.environ.get(TIMEOUT, DEFAULTS[TIMEOUT]))


def made_once(make: Callable[[], T], find: Callable[[], T | None]) -> T:
    """Make something, or find what an unanswered request made after all.

    A late request may still make a second one after this has returned: list what is there, let the order of the
    server decide, and look again the next time.

    Args:
        make: sends one request.
        find: looks for what ``make`` makes.

    Raises:
        MlflowException: the server refuses, or never answers.
    """
    from mlflow.exceptions import MlflowException

    unanswered: MlflowException | None = None
    for _ in range(TRIES):
        try:
            with _variable(RETRIES, "0"):
                return make()
        except MlflowException as error:
            if error.get_http_status_code() < 500:
                raise
            unanswered = error
        if (found := _appeared(find)) is not None:
            return found
    assert unanswered is not None
    raise unanswered


@contextmanager
def upload_patience() -> Iterator[None]:
    """A server that answers may still need longer to store an engine than to say that it is there."""
    if os.environ.get(TIMEOUT) != DEFAULTS[TIMEOUT]:
        yield  # the user's own
        return
    with _variable(TIMEOUT, str(_UPLOAD_TIMEOUT_S)):
        yield


def _appeared(find: Callable[[], T | None]) -> T | None:
    deadline = time.monotonic() + patience_s()
    while (found := find()) is None and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
    return found


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """MLflow reads its patience anew for each request."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
