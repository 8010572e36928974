"""``retort stack``: everything of a plant's servers on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from flows.services import HOST
from flows.stack import place, servers, ssh, supervisor
from flows.stack.place import StackError
from flows.stack.postgres import part_of, postgres_of, variables

CLIENT_RETRIES = "8"  # Prefect's client then bears a server that is away for some minutes


def run(root: Path, asked_ports: Mapping[str, int]) -> int:
    """Start the stack of a project, say what to do next, and watch it until Ctrl-C, SIGTERM or a closed terminal.

    Returns:
        0 after such an end, 1 where it could not start; the reason is told.
    """
    # SIGINT, too: a shell that starts a job in the background has it ignored, by us and by all that we start.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with place.only_one(root / place.FOLDER), place.ports(root / place.FOLDER, asked_ports) as ports:
            return _run(root, ports)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(root: Path, ports: Mapping[str, int]) -> int:
    folder, logs = root / place.FOLDER, root / place.FOLDER / "logs"
    words = place.passwords(folder)
    server = postgres_of(folder, ports["postgres"], words["postgres"])
    remote, ssh_parts = _second_remote(folder, ports["ssh"])
    client = client_variables(ports, words)
    above = [
        servers.mlflow_part(folder, server, ports["mlflow"], words),
        servers.prefect_part(folder, server, ports["prefect"], words),
        servers.s3_part(ports["s3"]),
        *ssh_parts,
    ]
    running: list[supervisor.Running] = []
    try:
        for parts in ([part_of(server)], above, [servers.worker_part(folder, ports["worker"], client)]):
            names = ", ".join(part.name for part in parts)
            _say(f"starting {names}")
            running += supervisor.bring_up(parts, root, logs, _say)
            if parts is above:
                _end_lost_runs(client)
        write_exports(folder / "env", client)
        write_exports(folder / "postgres.env", variables(server))
        for line in _next_steps(folder, ports, remote):
            print(line, flush=True)
        while True:
            for one in running:
                supervisor.tend(one, root, _say)
            time.sleep(supervisor.LOOK_EVERY_S)
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.end(running, _say)


def _end_lost_runs(client: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "flows.end_lost_runs"]
    done = subprocess.run(command, env={**os.environ, **client}, capture_output=True, text=True, check=False)
    if done.returncode:
        _say(f"lost runs will stay as running: {' '.join(done.stderr.split()[-40:])}")


def client_variables(ports: Mapping[str, int], words: Mapping[str, str]) -> dict[str, str]:
    """What a client of the stack needs: a person's shell, a worker, a notebook."""
    return {
        "MLFLOW_TRACKING_URI": f"http://{HOST}:{ports['mlflow']}",
        "MLFLOW_TRACKING_USERNAME": servers.ADMIN,
        "MLFLOW_TRACKING_PASSWORD": words["mlflow"],
        "PREFECT_API_URL": f"http://{HOST}:{ports['prefect']}/api",
        "PREFECT_API_AUTH_STRING": f"{servers.PREFECT_USER}:{words['prefect']}",
        "PREFECT_CLIENT_MAX_RETRIES": CLIENT_RETRIES,
        "AWS_ACCESS_KEY_ID": words["s3_key_id"],
        "AWS_SECRET_ACCESS_KEY": words["s3_secret"],
        "AWS_ENDPOINT_URL": f"http://{HOST}:{ports['s3']}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def write_exports(path: Path, variables: Mapping[str, str]) -> None:
    """Write a file for a shell to ``source``, which only this user may read."""
    place.write_private(path, "".join(f"export {name}='{value}'\n" for name, value in variables.items()))


def _second_remote(folder: Path, port: int) -> tuple[ssh.Ssh | None, list[supervisor.Part]]:
    try:
        remote, part = ssh.ssh_of(folder, port)
    except StackError as error:
        _say(f"no SSH remote: {error}; the rest goes on")
        return None, []
    return remote, [part]


def _next_steps(folder: Path, ports: Mapping[str, int], remote: ssh.Ssh | None) -> list[str]:
    here = f"http://{HOST}"
    lines = [
        f"PostgreSQL: {HOST}:{ports['postgres']}",
        f"MLflow: {here}:{ports['mlflow']} (user {servers.ADMIN})",
        f"Prefect: {here}:{ports['prefect']} (a worker waits on the pool {servers.POOL})",
        f"S3: {here}:{ports['s3']}, bucket {servers.BUCKET}; for trying out: it keeps its data in memory, and they go "
        "with it",
    ]
    lines += [f"SSH: {remote.address}"] if remote else []
    lines += [
        "",
        "next, in another terminal:",
        f"  source {folder / 'env'}          # addresses and passwords",
        f"  dvc remote add --local --default s3 s3://{servers.BUCKET}",
        f"  dvc remote modify --local s3 endpointurl {here}:{ports['s3']}",
    ]
    if remote:
        lines += [
            f"  dvc remote add --local ssh {remote.address}",
            f"  dvc remote modify --local ssh keyfile {remote.key}",
        ]
    return [
        *lines,
        "  RETORT_PROJECT=$PWD prefect --no-prompt deploy --prefect-file infra/prefect.yaml --all   # nightly runs",
        "  retort run && dvc push",
        "Ctrl-C ends all.",
    ]


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
