"""The table of faults, walked through: what stages, DVC, databases, disks and servers really print."""

import re
from collections import deque

import pytest

from flows.dvc_process import BusyError, InfrastructureError, StageFailedError, _failure
from flows.faults import FAULTS, Asks, fault_in

# What was printed, by whom → what it asks for.
SEEN = {
    "error: stage distill is being run by ann on gpu1, process 7, since 2026-01-01T00:00:00+00:00 (3 of 9 epochs).": (
        Asks.A_WAIT
    ),
    "error: data/cache: another process is writing there; wait for it, or stop it and run again": Asks.A_WAIT,
    "ERROR: Unable to acquire lock. Most likely another DVC process is running": Asks.A_WAIT,
    "ERROR: '/p/models/teacher' is busy, it is being blocked by:\n  (PID 12): dvc repro": Asks.A_WAIT,
    "error: [Errno 28] No space left on device: 'models/teacher/.weights.pt.x'": Asks.A_WAIT,
    "error: /p/.dvc/cache: no space left on device: 3 MB are free, a stage begins with 200 MB": Asks.A_WAIT,
    "OSError: [Errno 122] Disk quota exceeded: 'data/prepared'": Asks.A_WAIT,
    "sqlite3.OperationalError: database or disk is full": Asks.A_WAIT,
    "ERROR: unexpected error - [Errno 30] Read-only file system: '/cache/files/md5'": Asks.A_PERSON,
    "error: /p/models: read-only for user 1000; give the right to write, then run again": Asks.A_PERSON,
    "sqlalchemy.exc.OperationalError: attempt to write a readonly database": Asks.A_PERSON,
    "PermissionError: [Errno 13] Permission denied: 'models'": Asks.A_PERSON,
    "error: MLflow at http://h:5000 does not accept the credentials it was given": Asks.A_PERSON,
    "error: MLflow at http://h:5000 asks for credentials: set": Asks.A_PERSON,
    "API request failed with error code 401": Asks.A_PERSON,
    "botocore.exceptions.ClientError: An error occurred (403) when calling HeadObject: Forbidden": Asks.A_PERSON,
    "sqlite3.OperationalError: database is locked": Asks.ANOTHER_TRY,
    "psycopg2.errors.DeadlockDetected: deadlock detected": Asks.ANOTHER_TRY,
    "psycopg2.OperationalError: server closed the connection unexpectedly": Asks.ANOTHER_TRY,
    "FATAL:  terminating connection due to administrator command": Asks.ANOTHER_TRY,
    "FATAL:  the database system is starting up": Asks.ANOTHER_TRY,
    "requests.exceptions.ConnectionError: Max retries exceeded with url: /api": Asks.ANOTHER_TRY,
    "ConnectionResetError: [Errno 104] Connection reset by peer": Asks.ANOTHER_TRY,
    "socket.gaierror: [Errno -3] Temporary failure in name resolution": Asks.ANOTHER_TRY,
    "ERROR: failed to pull data from the cloud - 3 files failed to download": Asks.ANOTHER_TRY,
    "OSError: [Errno 5] Input/output error: 'data/cache/0.arrow'": Asks.ANOTHER_TRY,
    "OSError: [Errno 116] Stale file handle": Asks.ANOTHER_TRY,
    "ERROR: failed to reproduce 'distill': failed to run: python -m kd_steps.distill, exited with 137": (
        Asks.ANOTHER_TRY
    ),
    "ERROR: failed to reproduce 'distill': failed to run: python -m kd_steps.distill, exited with -9": (
        Asks.ANOTHER_TRY
    ),
    "error: process 1 of the training was ended by signal 9 (9: perhaps for want of memory)": Asks.ANOTHER_TRY,
}
OWN = [
    "error: labels/a.txt, line 3: four numbers",
    "error: params.yaml: gate.min_map_ratio: Input should be less than or equal to 1, got 1.5",
    "error: the gate failed, so no engine was registered:\n  - map_ratio of onnx-fp32 is 0.401",
    "error: data/prepared: 503 boxes of class 4010 have no picture",
    "ERROR: failed to reproduce 'gate': failed to run: python -m kd_steps.gate, exited with 1",
    "KeyError: 'ours'",
]


@pytest.mark.parametrize("text", SEEN)
def test_what_was_seen_is_sorted(text):
    fault = fault_in(text)
    assert fault is not None
    assert fault.asks == SEEN[text]


def test_every_kind_of_the_table_was_seen():
    assert {fault_in(text).name for text in SEEN} == {fault.name for fault in FAULTS}


@pytest.mark.parametrize("text", OWN)
def test_a_stages_own_failure_is_no_fault_of_the_machine(text):
    assert fault_in(text) is None


@pytest.mark.parametrize("code", [-9, -15])
def test_a_killed_dvc_is_a_fault_of_the_machine(code):
    error = _failure("distill", deque(["epoch 3", "epoch 4"]), code)
    assert type(error) is InfrastructureError
    assert "want of memory" in str(error)


def test_each_sort_has_its_error_and_tells_the_mend():
    kinds = {Asks.ANOTHER_TRY: InfrastructureError, Asks.A_WAIT: BusyError, Asks.A_PERSON: StageFailedError}
    for text, asks in SEEN.items():
        error = _failure("distill", deque(text.split("\n")), 1)
        assert type(error) is kinds[asks], text
        assert fault_in(text).mend in str(error)
    own = _failure("distill", deque([OWN[0]]), 1)
    assert (type(own), str(own)) == (StageFailedError, "distill: labels/a.txt, line 3: four numbers")


def test_every_expression_can_be_read():
    for fault in FAULTS:
        assert re.compile(fault.told)
        assert fault.mend[0].islower()
        assert not fault.mend.endswith(".")
