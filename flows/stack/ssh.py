"""A second remote for DVC: SSH on loopback with keys of its own, where ``sshd`` is installed."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flows.services import HOST
from flows.stack.programs import program, until_we_end
from flows.stack.supervisor import Part

PRIVILEGE_SEPARATION = Path("/run/sshd")  # Debian's sshd wants it, and only its service makes it


@dataclass(frozen=True)
class Ssh:
    """What a client needs: the address of a folder that DVC may fill, and the key that opens it."""

    address: str
    key: Path


def ssh_of(folder: Path, port: int) -> tuple[Ssh, Part]:
    """The remote, with keys drawn at the first start, and the server's part.

    Raises:
        StackError: sshd is not installed.
    """
    sshd, keygen = program("sshd", "openssh-server"), program("ssh-keygen", "openssh-client")
    home = folder.resolve() / "ssh"
    home.mkdir(mode=0o700, exist_ok=True)
    for name in ("host_key", "client_key"):
        if not (home / f"{name}.pub").exists():
            (home / name).unlink(missing_ok=True)
            draw = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", "retort stack", "-f", str(home / name)]
            subprocess.run(draw, check=True, stdin=subprocess.DEVNULL)
    store = folder.resolve() / "ssh_store"
    store.mkdir(exist_ok=True)
    (home / "sshd_config").write_text(_settings(home, port), encoding="utf-8")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(exist_ok=True)
    part = Part(
        name="SSH",
        command=until_we_end([sshd, "-D", "-e", "-f", str(home / "sshd_config")], "TERM"),
        answers=lambda: _greets(port),
    )
    return Ssh(f"ssh://{getpass.getuser()}@{HOST}:{port}{store}", home / "client_key"), part


def _settings(home: Path, port: int) -> str:
    """Keys alone open it, to file transfer and to commands, as DVC needs them."""
    lines = [
        f"ListenAddress {HOST}",
        f"Port {port}",
        f"HostKey {home / 'host_key'}",
        f"AuthorizedKeysFile {home / 'client_key.pub'}",
        f"PidFile {home / 'pid'}",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "UsePAM no",
        "StrictModes no  # the project may lie where others may write",
        "Subsystem sftp internal-sftp",
    ]
    return "\n".join(lines) + "\n"


def _greets(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=2) as line:
            return line.recv(4) == b"SSH-"
    except OSError:
        return False
