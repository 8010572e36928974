"""PostgreSQL below the stack's folder: its data made once, its databases, and how it is started."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.services import HOST
from flows.stack.place import StackError, write_private
from flows.stack.programs import major_of, postgres_folder, until_we_end
from flows.stack.supervisor import Part

ROLE = "retort"
DATABASES = ("mlflow", "mlflow_users", "prefect")


@dataclass(frozen=True)
class Postgres:
    """A server of ours.

    Attributes:
        data: its data folder.
        port: on loopback.
        password: of the role ``retort``.
        programs: the folder of its programs.
        user: the user it runs as where we are root, which it refuses; empty for us.
    """

    data: Path
    port: int
    password: str
    programs: Path
    user: str = ""

    def address(self, database: str, driver: str) -> str:
        """The address of a database with user and password, as SQLAlchemy reads it.

        The driver is always told: SQLAlchemy 2.1 takes another one by itself than 2.0 did.
        """
        return f"{driver}://{ROLE}:{self.password}@{HOST}:{self.port}/{database}"


def postgres_of(folder: Path, port: int, password: str) -> Postgres:
    """The server whose data lie in a stack's folder, made where there are none.

    Raises:
        StackError: it is not installed, its user cannot reach the folder, or the data are of another major version.
    """
    data = folder.resolve() / "postgres"
    version = data / "PG_VERSION"
    try:
        made_by = version.read_text(encoding="ascii").strip() if version.exists() else ""
    except PermissionError as error:
        raise StackError(f"{data}: another user started the stack here; start it as that user") from error
    programs = postgres_folder(made_by)
    installed = major_of(programs / "postgres")
    if made_by not in ("", installed):
        raise StackError(
            f"{data}: the data of PostgreSQL {made_by}, and PostgreSQL {installed} is installed, which cannot "
            f"read them; install postgresql-{made_by}, or dump with that version and restore (infra/README.md)"
        )
    server = Postgres(data, port, password, programs, _other_user())
    _require_way(server)
    if not made_by:
        _make_data(server)
    return server


def part_of(server: Postgres) -> Part:
    """How it is started: it listens on loopback alone, for those who know the password."""
    only_loopback = ["-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories="]
    command = [str(server.programs / "postgres"), "-D", str(server.data), "-p", str(server.port), *only_loopback]
    return Part(
        name="PostgreSQL",
        command=until_we_end(command, "INT", server.user),
        answers=lambda: _is_ready(server),
        once_ready=lambda: make_databases(server),
        ends_by=signal.SIGINT,  # its "fast" shutdown: sessions are ended, everything is written
    )


def make_databases(server: Postgres, databases: Sequence[str] = DATABASES) -> None:
    """Make the databases that are not there yet.

    Raises:
        StackError: it does not take the password, or refuses.
    """
    there = ask(server, "postgres", "SELECT datname FROM pg_database").split()
    for name in databases:
        if name not in there:
            ask(server, "postgres", f'CREATE DATABASE "{name}"')


def ask(server: Postgres, database: str, sql: str) -> str:
    """What the server answers to one statement, as lines of bare values.

    Raises:
        StackError: it refuses; the message has its words.
    """
    command = [str(server.programs / "psql"), "-d", database, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]
    environment = {**os.environ, **variables(server), "PGCONNECT_TIMEOUT": "10"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.strip()
    mend = (
        f"; {server.data} knows another password than {server.data.parent / 'secrets.json'}: put the file of its first "
        "start back, or remove the whole folder and begin anew"
        if "password authentication failed" in said
        else ""
    )
    raise StackError(f"PostgreSQL at {HOST}:{server.port}: {said}{mend}")


def variables(server: Postgres) -> dict[str, str]:
    """The variables by which psql, pg_dump and pg_restore reach the server."""
    return {"PGHOST": HOST, "PGPORT": str(server.port), "PGUSER": ROLE, "PGPASSWORD": server.password}


def _is_ready(server: Postgres) -> bool:
    asked = [str(server.programs / "pg_isready"), "-q", "-h", HOST, "-p", str(server.port)]
    return subprocess.run(asked, check=False).returncode == 0


def _other_user() -> str:
    """PostgreSQL refuses to run as root: Debian's user for it, or the one who owns nothing."""
    if os.geteuid() != 0:
        return ""
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise StackError("PostgreSQL refuses to run as root, and there is no user postgres or nobody; `adduser` one")


def _require_way(server: Postgres) -> None:
    """The user may have to pass folders that are closed to it."""
    if not server.user:
        return
    for folder in reversed(server.data.parents):
        enter = until_we_end(["test", "-x", str(folder)], "KILL", server.user)
        if folder.exists() and subprocess.run(enter, check=False).returncode:
            raise StackError(
                f"{folder}: user {server.user}, as whom PostgreSQL runs since it refuses root, cannot pass it; say "
                f"`chmod o+x {folder}`, move the project, or start the stack as another user than root"
            )


def _make_data(server: Postgres) -> None:
    """Make the data folder aside and put it in place whole, so that a kill leaves none that is half made."""
    unready = server.data.with_name("postgres.unready")
    shutil.rmtree(unready, ignore_errors=True)
    unready.mkdir(mode=0o700)
    word = unready.with_name("postgres.word")
    write_private(word, server.password + "\n")
    if server.user:
        owner = pwd.getpwnam(server.user)
        for path in (unready, word):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    command = [str(server.programs / "initdb"), "-D", str(unready), "-U", ROLE, "-A", "scram-sha-256"]
    # The C locale is on every machine, and sorts everywhere alike.
    command += [f"--pwfile={word}", "--encoding=UTF8", "--locale=C"]
    try:
        done = subprocess.run(
            until_we_end(command, "KILL", server.user), capture_output=True, text=True, check=False, cwd="/"
        )
    finally:
        word.unlink()
    if done.returncode:
        raise StackError(f"{server.data}: initdb failed: {(done.stderr or done.stdout).strip()}")
    unready.rename(server.data)
