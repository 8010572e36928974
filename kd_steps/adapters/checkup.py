"""What this machine, its disks and its servers say of themselves, for ``retort doctor``; nothing is changed."""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from kd_steps.adapters.mlflow.address import without_credentials
from kd_steps.edge.identity import machine, release
from kd_steps.running.room import dvc_cache, require_room

ANSWER_S = 5.0
PREFECT_SECRET = "PREFECT_API_AUTH_STRING"
# What a result depends on, or what talks to servers: another version than the lock's is worth a word.
WATCHED = (
    *("torch", "torchvision", "ultralytics", "onnx", "onnxruntime", "openvino", "dvc", "prefect", "mlflow"),
    *("great-expectations", "pandas", "numpy"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        state: ``ok``; ``note``: works, but know this; ``fault``: does not work.
        told: what was found.
        mend: what to do; empty where nothing is.
    """

    subject: str
    state: Literal["ok", "note", "fault"]
    told: str
    mend: str = ""


def packages(root: Path) -> Finding:
    """The installed packages against ``requirements.lock``."""
    lock = root / "requirements.lock"
    python = f"Python {platform.python_version()}"
    if not lock.is_file():
        return Finding("packages", "note", f"{python}; no requirements.lock here to compare with")
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE))
    other = [
        f"{name} {found or 'missing'} (lock: {pins[name]})"
        for name in WATCHED
        if name in pins and (found := _version(name)) != pins[name]
    ]
    if other:
        return Finding("packages", "fault", f"{python}; not as in the lock: {', '.join(other)}", "run `make setup`")
    return Finding("packages", "ok", f"{python}; as in requirements.lock")


def processor() -> Finding:
    """The processor, and what of it trainings and INT8 engines use."""
    about, flags = machine(), _cpu_flags()
    has = [name for name, flag in INSTRUCTIONS.items() if flag in flags]
    can = ", ".join(has) or "none of " + ", ".join(INSTRUCTIONS)
    told = f"{about['cpu_model']}, {about['cores']} cores, {about['arch']}; {can}"
    if "avx512_vnni" not in flags and "avx_vnni" not in flags and about["arch"] == "x86_64":
        why = "without VNNI, INT8 sums saturate: INT8 engines lose accuracy here and may not pass the gate"
        return Finding("processor", "note", told, why)
    return Finding("processor", "ok", told)


INSTRUCTIONS = {"AVX2": "avx2", "AVX-512": "avx512f", "VNNI": "avx512_vnni", "bf16": "avx512_bf16", "AMX": "amx_tile"}


def disks(root: Path) -> Iterator[Finding]:
    """Free space of the project and of DVC's cache."""
    cache = dvc_cache(root)
    for name, place in (("disk of the project", root), ("disk of DVC's cache", cache)):
        if place is not None and place.is_dir():
            usage = shutil.disk_usage(place)
            told = f"{place}: {usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free"
            yield Finding(name, "ok", told)
    try:
        require_room(root)
    except OSError as error:
        yield Finding("room for a stage", "fault", str(error))


def prefect_server() -> Finding:
    """The server that ``PREFECT_API_URL`` names."""
    address = os.environ.get("PREFECT_API_URL", "")
    if not address:
        return Finding("Prefect", "ok", "no PREFECT_API_URL: `retort run` starts a server of its own while it runs")
    shown = without_credentials(address)
    try:
        with urllib.request.urlopen(_request(f"{address.rstrip('/')}/admin/version"), timeout=ANSWER_S) as answer:
            version = json.load(answer)
    except (OSError, ValueError) as error:
        refused = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403)
        mend = f"set {PREFECT_SECRET}" if refused else "start it, or see whether PREFECT_API_URL is right"
        return Finding("Prefect", "fault", f"{shown}: {error}", mend)
    ours = _version("prefect")
    if version != ours:
        return Finding("Prefect", "note", f"{shown} is {version}, here is {ours}", "let both have one version")
    return Finding("Prefect", "ok", f"{shown} answers, version {version}")


def dvc_remotes(root: Path) -> Iterator[Finding]:
    """The remotes of DVC; a folder is looked at, of another one only the address is told."""
    from dvc.config import Config, ConfigError

    if not (root / ".dvc").is_dir():
        yield Finding("DVC", "fault", f"{root}: no .dvc here", "run `dvc init`")
        return
    try:
        remotes = Config(dvc_dir=str(root / ".dvc"))["remote"]
    except ConfigError as error:
        yield Finding("DVC", "fault", " ".join(str(error).split()), "mend .dvc/config")
        return
    if not remotes:
        told = "no remote: nobody else can pull what was made here"
        yield Finding("DVC remote", "note", told, "`dvc remote add --default store ADDRESS`, then `dvc push`")
    for name, address in ((name, remote["url"]) for name, remote in remotes.items()):
        scheme = urlsplit(address).scheme
        if scheme in ("", "file"):
            yield _folder_remote(name, Path(urlsplit(address).path if scheme else address))
        elif importlib.util.find_spec(f"dvc_{scheme}") is None:
            mend = f"install it: `uv pip install 'dvc-{scheme}'`"
            yield Finding(
                f"DVC remote {name}", "fault", f"{without_credentials(address)}: dvc-{scheme} is not installed", mend
            )
        else:
            yield Finding(f"DVC remote {name}", "ok", f"{without_credentials(address)}; `dvc status --cloud` asks it")


def _request(address: str) -> urllib.request.Request:
    """A request with the user and password that Prefect's own client would bring."""
    secret = os.environ.get(PREFECT_SECRET, "")
    basic = {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"} if secret else {}
    return urllib.request.Request(address, headers=basic)


def _folder_remote(name: str, folder: Path) -> Finding:
    subject = f"DVC remote {name}"
    if not folder.is_dir():
        return Finding(subject, "fault", f"{folder}: no such folder", "mount it, or `dvc remote modify` its address")
    if not os.access(folder, os.W_OK):
        return Finding(
            subject, "note", f"{folder}: read-only for user {os.getuid()}: `dvc pull` works, `dvc push` does not"
        )
    return Finding(subject, "ok", f"{folder}: {shutil.disk_usage(folder).free / 1e9:.1f} GB free")


def _version(name: str) -> str | None:
    try:
        return release(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_flags() -> set[str]:
    told = Path("/proc/cpuinfo")
    found = re.search(r"^flags\s*:(.*)$", told.read_text(encoding="utf-8"), re.MULTILINE) if told.is_file() else None
    return set(found[1].split()) if found else set()
