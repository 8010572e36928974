"""The pages of MLflow and Prefect on loopback, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from flows.dvc_process import end_tree

HOST = "127.0.0.1"
READY_S = 120


@dataclass(frozen=True)
class Service:
    """A server of ours: its name, its page, the address that answers when it is ready, and its command."""

    name: str
    page: str
    health: str
    command: list[str]


def free_port(wanted: int) -> int:
    """``wanted``, or a free port where another program has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"{HOST} has no free port")


def mlflow_service(root: Path, port: int) -> Service:
    """MLflow over the project's SQLite file, or over the database that ``MLFLOW_TRACKING_URI`` names."""
    store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"
    # A plain folder, as runs without this server use it: with a proxied address they could not write to the same
    # experiment. Both are on this machine.
    artifacts = (root.resolve() / "mlartifacts").as_uri()
    page = f"http://{HOST}:{port}"
    flags = ["--host", HOST, "--port", str(port), "--backend-store-uri", store, "--default-artifact-root", artifacts]
    # One worker holds the memory down; a person looks at one page at a time.
    return Service(
        "MLflow", page, f"{page}/health", [sys.executable, "-m", "mlflow", "server", *flags, "--workers", "1"]
    )


def prefect_service(port: int) -> Service:
    """Prefect's server, over the same database as runs without a server."""
    page = f"http://{HOST}:{port}"
    flags = ["server", "start", "--host", HOST, "--port", str(port)]
    return Service("Prefect", page, f"{page}/api/health", [sys.executable, "-m", "prefect", *flags])


def serve(root: Path, services: list[Service], also: list[str]) -> int:
    """Start the services, print their addresses when they answer, and end them all with the first that ends.

    Args:
        root: the project; the servers' output goes to ``.retort/<name>.log`` below it.
        services: what to start.
        also: lines to print below the addresses.

    Returns:
        0 after Ctrl-C or SIGTERM, 1 where a service ended by itself or never answered.
    """
    running: dict[str, subprocess.Popen[str]] = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logs = root / ".retort"
    logs.mkdir(exist_ok=True)
    try:
        for service in services:
            with (logs / f"{service.name.lower()}.log").open("w", encoding="utf-8") as log:
                running[service.name] = subprocess.Popen(
                    service.command, cwd=root, stdout=log, stderr=subprocess.STDOUT, text=True
                )
        for service in services:
            wait_until_ready(service, running[service.name])
            print(f"{service.name}: {service.page}", flush=True)
        for line in [*also, "Ctrl-C ends both."]:
            print(line, flush=True)
        while all(process.poll() is None for process in running.values()):
            time.sleep(0.5)
        ended = [name for name, process in running.items() if process.poll() is not None]
        print(f"{', '.join(ended)} ended by itself; see {logs}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    except TimeoutError as error:
        print(f"error: {error}; see {logs}", file=sys.stderr)
        return 1
    finally:
        for process in running.values():
            end_tree(process)


def wait_until_ready(service: Service, process: subprocess.Popen[str], seconds: float = READY_S) -> None:
    """Wait for a started service to answer.

    Raises:
        TimeoutError: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(service.health, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise TimeoutError(f"{service.name} did not answer at {service.health}")
