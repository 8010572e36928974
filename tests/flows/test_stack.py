"""`retort stack` as a person uses it: a pipeline through real servers, killed one after the other.

One stack for all tests here, in their order: to start one takes half a minute on two quiet cores.
"""

import json
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import psutil
import pytest
import requests
from live_stack import NEEDS_POSTGRES, LiveStack, live_stack, open_folder, wait_for
from stack_project import REPOSITORY, begin_round, done, dvc, git, go, make_project, run
from stack_runs import (
    STAGES_A_RESULT,
    end_of,
    in_stage,
    nothing_is_done_twice,
    results,
    rows,
    stack_processes,
    start_run,
    state,
    versions,
)

from flows.services import free_port
from flows.stack import place, servers, start, supervisor
from flows.stack.postgres import DATABASES, part_of, postgres_of, variables
from kd_steps.edge.manifest import read_manifest
from kd_steps.edge.verification import verify_files
from kd_steps.stage_entry import ENVIRONMENT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), NEEDS_POSTGRES]


@pytest.fixture(scope="module")
def stack():
    with open_folder() as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        root = folder / "project"
        make_project(root)
        with live_stack(root) as live:
            deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
            deploy += ["--prefect-file", str(REPOSITORY / "infra/prefect.yaml")]
            run(root, *deploy, RETORT_PROJECT=str(root), PREFECT_HOME=str(folder / "home"), **live.variables)
            yield live


def test_a_run_waits_for_the_one_before_and_both_are_seen(stack):
    first = start_run(stack)
    in_stage(stack, "count")
    second = start_run(stack)
    wait_for(lambda: state(stack, second)[1] == "AwaitingConcurrencySlot", "the second run to wait")
    go(stack.root, 0)
    assert end_of(stack, first) == "COMPLETED"
    assert end_of(stack, second) == "COMPLETED"
    assert done(stack.root) == ["begun 0", "done 0"]
    tasks = stack.prefect("POST", "/task_runs/filter", json={"flow_runs": {"id": {"any_": [second]}}})
    assert {task["state"]["name"] for task in tasks} == {"Cached"}
    nothing_is_done_twice(stack, 1)


def test_passwords_are_asked_for_and_told_to_nobody(stack):
    given = stack.variables
    for secret in [stack.folder / name for name in ("secrets.json", "env", "postgres.env", "mlflow_auth.ini")]:
        assert secret.stat().st_mode & 0o077 == 0, secret
    page = f"{given['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/model-versions/search"
    assert requests.get(page, timeout=60).status_code == 401
    assert requests.get(page, auth=("admin", "wrong"), timeout=60).status_code == 401
    assert requests.post(f"{given['PREFECT_API_URL']}/flow_runs/filter", json={}, timeout=60).status_code == 401
    told = "\n".join(path.read_text(errors="replace") for path in (stack.folder / "logs").iterdir())
    told += "\n".join(stack.said)
    words = re.findall(r'": "([0-9a-f]{32})"', (stack.folder / "secrets.json").read_text())
    assert len(words) == 6
    command_lines = []
    for one in stack_processes(stack):
        with suppress(psutil.NoSuchProcess):  # those of PostgreSQL come and go
            command_lines.append(" ".join(one.cmdline()))
    assert len(command_lines) > 6
    for word in words:
        assert word not in told
        assert not [line for line in command_lines if word in line]


def test_a_fresh_clone_pulls_what_was_pushed(stack):
    root, given = stack.root, stack.variables
    dvc(root, "remote", "add", "--default", "s3", "s3://retort")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "Round 0")
    dvc(root, "push", "-q", **given)
    remotes = ["s3"]
    if any(line.startswith("SSH: ") for line in stack.said):
        (address,) = [line.removeprefix("SSH: ") for line in stack.said if line.startswith("SSH: ")]
        dvc(root, "remote", "add", "ssh", address)
        dvc(root, "remote", "modify", "ssh", "keyfile", str(stack.folder / "ssh/client_key"))
        dvc(root, "push", "-q", "-r", "ssh", **given)
        git(root, "commit", "-qam", "A second remote")
        remotes.append("ssh")
    for remote in remotes:
        clone = root.with_name(f"clone-{remote}")
        git(root.parent, "clone", "-q", str(root), str(clone))
        dvc(clone, "pull", "-q", "-r", remote, **given)
        assert "up to date" in dvc(clone, "status", **given)
        assert (clone / "counted.txt").read_text() == "0"


def test_a_wrong_password_is_one_plain_message(stack):
    """The receipt says so, too, until the next round writes it anew."""
    wrong = {**stack.variables, "MLFLOW_TRACKING_PASSWORD": "wrong"}
    with pytest.raises(AssertionError) as caught:
        run(stack.root, sys.executable, "-m", "kd_steps.register", **wrong)
    told = str(caught.value)
    assert re.search(r"error: MLflow at http://127\.0\.0\.1:\d+ does not accept the credentials", told)
    assert "MLFLOW_TRACKING_USERNAME" in told
    assert "Traceback" not in told


def test_the_worker_killed(stack):
    """Its run ends with it, so that no stage writes unwatched, and says so; the next one finds the work to do."""
    begin_round(stack.root, 1)
    lost = start_run(stack)
    in_stage(stack, "count")
    stack.kill("worker", "worker", "start")
    assert end_of(stack, lost) == "CRASHED"
    go(stack.root, 1)
    assert end_of(stack, start_run(stack)) == "COMPLETED"
    nothing_is_done_twice(stack, 2)


def test_prefects_server_killed(stack):
    """The run goes on, and tells the server what became of it when that is back."""
    begin_round(stack.root, 2)
    bearing = start_run(stack)
    in_stage(stack, "count")
    stack.kill("Prefect", "prefect", "server")
    go(stack.root, 2)
    assert end_of(stack, bearing) == "COMPLETED"
    nothing_is_done_twice(stack, 3)
    assert done(stack.root).count("begun 2") == 1


@pytest.mark.parametrize(("name", "word", "number"), [("MLflow", "mlflow", 3), ("PostgreSQL", "listen_addresses", 4)])
def test_killed_in_the_middle_of_register(stack, name, word, number):
    """The stage is tried again, and goes on with the result that it had half logged."""
    begin_round(stack.root, number)
    go(stack.root, number)
    bearing = start_run(stack)
    in_stage(stack, "register")
    wait_for(lambda: [1 for stages in results(stack).values() if 0 < len(stages) < STAGES_A_RESULT], "half a result")
    stack.kill(name, word)
    if end_of(stack, bearing) != "COMPLETED":  # Prefect's own writes may have met the dead database
        assert end_of(stack, start_run(stack)) == "COMPLETED"
    nothing_is_done_twice(stack, number + 1)
    assert done(stack.root).count(f"begun {number}") == 1


def test_a_run_killed_with_its_worker_does_not_stand_in_the_way(stack):
    """As when a machine goes: nobody is left who could tell the server; silence tells it."""
    begin_round(stack.root, 5)
    lost = start_run(stack)
    in_stage(stack, "count")
    worker = stack.part("worker", "start")
    for one in [worker, *worker.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    assert end_of(stack, lost) == "CRASHED"
    go(stack.root, 5)
    assert end_of(stack, start_run(stack)) == "COMPLETED"
    nothing_is_done_twice(stack, 6)


class _Heard(BaseHTTPRequestHandler):
    """Where failures are told: keeps what it was sent."""

    heard: ClassVar[list[dict[str, str]]] = []

    def do_POST(self):
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass


def test_a_failed_run_is_told(stack):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Heard) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.server_port}/hook/token"
            given = {**stack.variables, "RETORT_TELL_URL": address, "PREFECT_HOME": str(stack.root.parent / "home")}
            for _ in range(2):  # said again, it is still one
                run(stack.root, sys.executable, "-m", "flows.tell_failures", **given)
            failed = start_run(stack, target="gaet")
            assert end_of(stack, failed) == "FAILED"
            wait_for(lambda: _Heard.heard, "the failure to be told")
        finally:
            listener.shutdown()
            thread.join()
    assert len(_Heard.heard) == 1
    assert _Heard.heard[0]["subject"] == "Retort: a run failed"
    assert failed in _Heard.heard[0]["text"]
    assert "no stage 'gaet'; there are: count, register" in _Heard.heard[0]["text"]


def test_a_backup_restores_registry_and_prefect(stack, tmp_path):
    """Into another PostgreSQL, on which servers answer as before."""
    words, script = place.passwords(stack.folder), REPOSITORY / "infra"
    port = json.loads((stack.folder / "ports.json").read_text())["postgres"]
    first = postgres_of(stack.folder, port, words["postgres"])
    before = {database: rows(first, database) for database in DATABASES}
    assert before["mlflow"]["model_versions"].split()[0] == str(len(versions(stack)))
    run(stack.root, str(script / "backup.sh"), str(tmp_path / "kept"), **variables(first))

    folder = stack.root.with_name("restored") / ".retort/stack"
    folder.mkdir(parents=True)
    place.write_private(folder / "secrets.json", (stack.folder / "secrets.json").read_text())
    ports = {name: free_port(0) for name in place.WANTED_PORTS}
    second = postgres_of(folder, ports["postgres"], words["postgres"])
    started = supervisor.bring_up([part_of(second)], folder, folder / "logs", print)
    try:
        restore = [str(script / "restore.sh"), str(tmp_path / "kept"), str(folder / "mlartifacts")]
        run(folder, *restore, **variables(second))
        assert {database: rows(second, database) for database in DATABASES} == before
        with pytest.raises(AssertionError, match="is not empty"):
            run(folder, *restore, **variables(second))
        answering = [
            servers.mlflow_part(folder, second, ports["mlflow"], words),
            servers.prefect_part(folder, second, ports["prefect"], words),
        ]
        started += supervisor.bring_up(answering, folder, folder / "logs", print)
        start.write_exports(folder / "env", start.client_variables(ports, words))
        again = LiveStack(folder.parents[1], stack.process)
        assert versions(again) == versions(stack)
        assert results(again) == results(stack)
        assert again.prefect("GET", "/deployments/name/retrain/nightly")["name"] == "nightly"
        engine = [sys.executable, "-m", "mlflow", "artifacts", "download", "-d", str(tmp_path / "engine")]
        run(folder, *engine, "-u", "models:/retort-onnx-fp32@candidate", **again.variables)
        verify_files(read_manifest(tmp_path / "engine"), tmp_path / "engine")
    finally:
        supervisor.end(started, print)
    (tmp_path / "kept/mlflow.dump").write_bytes(b"torn")
    with pytest.raises(AssertionError, match=r"is not what infra/backup\.sh wrote"):
        run(folder, *restore, **variables(second))


def test_a_remote_that_lost_all_is_filled_from_the_second(stack, tmp_path):
    root, given = stack.root, stack.variables
    dvc(root, "remote", "add", "kept", str(tmp_path / "kept"))
    dvc(root, "push", "-q", "-r", "kept")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "All rounds")
    stack.kill("S3", "moto.server")
    clone = tmp_path / "clone"
    git(root.parent, "clone", "-q", str(root), str(clone))
    with pytest.raises(AssertionError):
        dvc(clone, "pull", "-q", **given)
    dvc(clone, "fetch", "-q", "-r", "kept")
    dvc(clone, "push", "-q", **given)
    git(root.parent, "clone", "-q", str(root), str(tmp_path / "other"))
    dvc(tmp_path / "other", "pull", "-q", **given)
    assert "up to date" in dvc(tmp_path / "other", "status", **given)


def test_a_second_stack_here_says_who_runs_the_first(stack):
    second = subprocess.run(
        [sys.executable, "-m", "flows.cli", "stack"],
        cwd=stack.root,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert second.returncode == 1
    assert f"a stack runs here already, process {stack.process.pid}" in second.stderr


def test_no_part_outlives_a_killed_stack(stack):
    family = stack_processes(stack)
    assert len(family) > 6
    stack.process.send_signal(signal.SIGKILL)
    stack.process.wait()
    alive = psutil.wait_procs(family, timeout=120)[1]
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
