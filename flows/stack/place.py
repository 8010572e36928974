"""Where a stack keeps itself: its folder, its passwords, its ports, and the lock that makes it the only one there."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from flows.services import HOST, free_port

FOLDER = Path(".retort/stack")
# The usual ones where they are seldom taken; PostgreSQL's own is, wherever Debian's service runs.
WANTED_PORTS = {"postgres": 5433, "mlflow": 5000, "prefect": 4200, "worker": 8081, "s3": 9000, "ssh": 2222}
PASSWORDS = ("postgres", "mlflow", "mlflow_cookies", "prefect", "s3_key_id", "s3_secret")


class StackError(ValueError):
    """The stack cannot start; the message names the file, program or address, and the mend."""


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a stack's folder until the block ends.

    Raises:
        StackError: another stack holds it; the message says which process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, note = FileLock(folder / "lock"), folder / "pid"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = note.read_text(encoding="ascii").strip() if note.exists() else "unknown"
        raise StackError(
            f"{folder}: a stack runs here already, process {holder}; `source {folder / 'env'}` to use it, or end it "
            f"with `kill -INT {holder}`"
        ) from None
    try:
        note.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def passwords(folder: Path) -> dict[str, str]:
    """The stack's passwords; those that are not there yet are drawn and kept.

    Raises:
        StackError: the file is damaged, or others may read it.
    """
    path = folder / "secrets.json"
    found: dict[str, str] = {}
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise StackError(f"{path}: others may read the passwords in it; say `chmod 600 {path}`")
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise StackError(
                f"{path}: not JSON ({error}); put a copy of it back, or remove the whole folder {folder} and begin anew"
            ) from error
    elif (folder / "postgres").exists():
        raise StackError(
            f"{path}: gone, and the data in {folder / 'postgres'} open only to its passwords; put a copy of it back, "
            f"or remove the whole folder {folder} and begin anew"
        )
    missing = [name for name in PASSWORDS if name not in found]
    if missing:
        found |= {name: secrets.token_hex(16) for name in missing}  # hexadecimal: safe in addresses and in shells
        write_private(path, json.dumps(found, indent=2) + "\n")
    return found


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read, at once or not at all."""
    torn = path.with_name(f".{path.name}.{os.getpid()}")
    torn.unlink(missing_ok=True)
    with os.fdopen(os.open(torn, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    torn.replace(path)


@contextmanager
def ports(folder: Path, asked: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """A port for each part: the one asked for, that of the last start, the usual one, or a free one.

    They are this stack's until the block ends: one that starts at the same moment takes others.

    Raises:
        StackError: one that was asked for is taken, or is asked for by a name that no part has.
    """
    strange = asked.keys() - WANTED_PORTS.keys()
    if strange:
        raise StackError(f"no part '{', '.join(strange)}' has a port; there are: {', '.join(WANTED_PORTS)}")
    kept = folder / "ports.json"
    last = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    with ExitStack() as claims:
        chosen: dict[str, int] = {}
        for name, usual in WANTED_PORTS.items():
            chosen[name] = _claimed(asked.get(name) or last.get(name, usual), claims)
            if name in asked and chosen[name] != asked[name]:
                raise StackError(
                    f"{HOST}:{asked[name]} is taken{_by_whom(asked[name])}; end that, or leave out `--port {name}="
                    f"{asked[name]}`, and {name} takes a free one"
                )
        kept.write_text(json.dumps(chosen) + "\n", encoding="utf-8")
        yield chosen


def _claimed(wanted: int, claims: ExitStack) -> int:
    """A port that is free, and that no other stack has claimed and not yet opened."""
    while True:
        port = free_port(wanted)
        claim = FileLock(Path(tempfile.gettempdir()) / f"retort-port-{port}.lock")
        # Of another user's claim the file cannot even be opened.
        with suppress(Timeout, OSError):
            claim.acquire(timeout=0)
            claims.callback(claim.release)
            return port
        wanted = 0


def _by_whom(port: int) -> str:
    """The process that listens there, where this user may know."""
    with suppress(psutil.Error):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                return f" by process {found.pid} ({psutil.Process(found.pid).name()})"
    return " by another program"
