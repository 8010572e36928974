"""The Python servers of the stack: MLflow with sign-in, Prefect and its worker, and an S3 for trying out."""

from __future__ import annotations

import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from flows.services import HOST
from flows.stack.place import write_private
from flows.stack.postgres import Postgres
from flows.stack.supervisor import Part

ADMIN = "admin"  # MLflow's first user
BUCKET = "retort"
POOL = "retort"
PREFECT_USER = "retort"
PSYCOPG, ASYNCPG = "postgresql+psycopg2", "postgresql+asyncpg"


def mlflow_part(folder: Path, server: Postgres, port: int, words: Mapping[str, str]) -> Part:
    """MLflow's server: runs, versions and users in PostgreSQL, files in a folder that it alone hands out."""
    settings = folder.resolve() / "mlflow_auth.ini"
    lines = [
        "[mlflow]",
        "default_permission = READ",
        f"database_uri = {server.address('mlflow_users', PSYCOPG)}",
        f"admin_username = {ADMIN}",
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
        # Each request would otherwise hash the password anew, slowly on purpose.
        "auth_cache_ttl_seconds = 60",
    ]
    write_private(settings, "\n".join(lines) + "\n")
    flags = ["--app-name", "basic-auth", "--host", HOST, "--port", str(port), "--workers", "1"]
    return Part(
        name="MLflow",
        command=_python("mlflow", "server", *flags),
        answers=lambda: _answers(f"http://{HOST}:{port}/health"),
        environment={
            "MLFLOW_BACKEND_STORE_URI": server.address("mlflow", PSYCOPG),
            "MLFLOW_ARTIFACTS_DESTINATION": (folder.resolve() / "mlartifacts").as_uri(),
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_PASSWORD": words["mlflow"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": words["mlflow_cookies"],
            "MLFLOW_TRACKING_URI": "",
        },
        ends_by=signal.SIGINT,
    )


def prefect_part(folder: Path, server: Postgres, port: int, words: Mapping[str, str]) -> Part:
    """Prefect's server with all its services."""
    return Part(
        name="Prefect",
        command=_python("prefect", "server", "start", "--host", HOST, "--port", str(port)),
        answers=lambda: _answers(f"http://{HOST}:{port}/api/health"),
        environment={
            "PREFECT_HOME": str(folder.resolve() / "prefect"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": server.address("prefect", ASYNCPG),
            "PREFECT_SERVER_API_AUTH_STRING": f"{PREFECT_USER}:{words['prefect']}",
            "PREFECT_API_AUTH_STRING": f"{PREFECT_USER}:{words['prefect']}",
            "PREFECT_API_URL": f"http://{HOST}:{port}/api",
            # Kept in files: in memory, as by default, a restart forgets which run holds the deployment's one place.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        },
        ends_by=signal.SIGINT,
    )


def worker_part(folder: Path, port: int, client: Mapping[str, str]) -> Part:
    """A worker of the pool ``retort``, which it makes; its runs have the variables of the stack's clients."""
    command = _python(
        *("prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", "stack", "--with-healthcheck"),
        *("--install-policy", "never"),
    )
    own = {
        "PREFECT_HOME": str(folder.resolve() / "worker"),
        "PREFECT_WORKER_WEBSERVER_HOST": HOST,
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
    }
    return Part(
        name="worker",
        command=command,
        answers=lambda: _answers(f"http://{HOST}:{port}/health"),
        environment={**client, **own},
        ends_by=signal.SIGINT,
        children_first=True,  # a run that the worker leaves behind would stand as running for ever
    )


def s3_part(port: int) -> Part:
    """An S3 of moto's: it takes any key, and its data live as long as its process."""
    return Part(
        name="S3",
        command=_python("moto.server", "-H", HOST, "-p", str(port)),
        answers=lambda: _answers(f"http://{HOST}:{port}/moto-api/"),
        once_ready=lambda: _make_bucket(f"http://{HOST}:{port}/{BUCKET}"),
        lost="what it held was in memory and is gone: `dvc push` fills it again",
    )


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.tied", str(os.getpid()), module, *arguments]


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _make_bucket(address: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=30):
        return
