"""Where a result comes from: the commit in git, and the digests that the stages left in the project's folders."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from kd_steps.adapters.files import sha256_of
from kd_steps.artifacts import paths, read_json

SIDECARS = {
    "teacher": paths.TEACHER / paths.SIDECAR,
    "student": paths.STUDENT / paths.SIDECAR,
    "few_shot": paths.FEW_SHOT / paths.SIDECAR,
}


def lineage_of(root: Path) -> dict[str, str]:
    """Name → value of everything that made the result at ``root``; a fact that is not there is left out."""
    facts = {"git_commit": _git(root, "rev-parse", "HEAD")}
    if facts["git_commit"]:
        changed = _git(root, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock")  # which every run writes
        facts["git_uncommitted_changes"] = "yes" if changed else "no"
    facts["params_sha256"] = _digest(root / "params.yaml")
    facts["dvc_lock_md5"] = _dvc_lock_md5(root)
    facts["dataset_digest"] = str(_values(root / paths.PREPARED / paths.DATASET_CARD).get("digest", ""))
    for kind, path in SIDECARS.items():
        sidecar = _values(root / path)
        facts[f"{kind}_sha256"] = str(sidecar.get("sha256", ""))
        facts[f"{kind}_model"] = str(sidecar.get("model", ""))
        facts["contract_digest"] = str(sidecar.get("contract_digest", "")) or facts.get("contract_digest", "")
    facts["cache_header_sha256"] = _digest(root / paths.CACHE_HEADER)
    return {name: value for name, value in facts.items() if value}


def versions_of(root: Path) -> dict[str, str]:
    """Library → version, as the sidecar of the newest model says."""
    found: dict[str, str] = {}
    for path in SIDECARS.values():
        versions = _values(root / path).get("versions")
        if isinstance(versions, dict):
            found.update({str(name): str(value) for name, value in versions.items()})
    return found


def _values(path: Path) -> dict[str, Any]:
    values = read_json(path) if path.is_file() else {}
    return values if isinstance(values, dict) else {}


def _digest(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ""


def _dvc_lock_md5(root: Path) -> str:
    """md5 of ``dvc.lock`` as it is while `register` runs and is kept with its run; an address, not a protection."""
    path = root / "dvc.lock"
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else ""


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine: an exported tree has no commit to name
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
