"""The programs of the operating system that a stack needs, found or told what to install."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from flows.stack.place import StackError

SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"  # where daemons lie, which a user's PATH often leaves out


def program(name: str, package: str) -> str:
    """The path of a program.

    Raises:
        StackError: it is not installed; the message names Debian's package.
    """
    found = shutil.which(name) or shutil.which(name, path=SYSTEM_FOLDERS)
    if found is None:
        raise StackError(f"{name} is not installed; on Debian: `apt-get install {package}`")
    return found


def until_we_end(command: Sequence[str], ends_by: str, user: str = "") -> list[str]:
    """A command that the kernel ends when the process that started it has ended, as another user where one is named."""
    change = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    if user == "nobody":
        change[1] = "--regid=nogroup"
    return [program("setpriv", "util-linux"), *change, "--pdeathsig", ends_by, "--", *command]


def postgres_folder(major: str = "") -> Path:
    """The folder of PostgreSQL's programs: of one major version where it is there, else of the newest.

    Raises:
        StackError: it is not installed.
    """
    found = {path.parent.parent.name: path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")}
    on_path = shutil.which("postgres")
    if on_path and not found:
        found[major_of(Path(on_path))] = Path(on_path).parent
    if not found:
        raise StackError("PostgreSQL is not installed; on Debian: `apt-get install postgresql`")
    return found.get(major) or found[max(found, key=int)]


def major_of(postgres: Path) -> str:
    """The major version that a ``postgres`` program says of itself."""
    said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"(\d+)", said)
    if version is None:
        raise StackError(f"{postgres}: does not say its version: {said.strip()}")
    return version[1]
