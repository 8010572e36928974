"""The proof that an engine's folder and this machine are what the manifest says, before any runtime opens a file."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path

from kd_steps.edge.manifest import ANY, MANIFEST_FILE, RELEASE_FILE, Manifest, ManifestError, digest_of, read_manifest


def verify_files(manifest: Manifest, engine_dir: Path) -> None:
    """Compare every file of the folder with the manifest; a release beside it is not looked at.

    Raises:
        ManifestError: names every file that is missing, changed, or not in the manifest.
    """
    faults = []
    for name, expected in manifest.files.items():
        path = engine_dir / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif (size := path.stat().st_size) != expected.bytes:
            faults.append(f"{name} has {size} bytes, expected {expected.bytes}")
        elif digest_of(path).sha256 != expected.sha256:
            faults.append(f"{name} has another sha256 than the manifest")
    known = {*manifest.files, MANIFEST_FILE, RELEASE_FILE}
    extra = sorted(p.relative_to(engine_dir).as_posix() for p in engine_dir.rglob("*") if not p.is_dir())
    faults += [f"{name} is not in the manifest" for name in extra if name not in known]
    if faults:
        raise ManifestError(f"{engine_dir}: {'; '.join(faults)}; fetch or export the engine again")


def verify_profile(manifest: Manifest) -> None:
    """Compare the target profile with this machine.

    Raises:
        ManifestError: names every difference.
    """
    profile, faults = manifest.target_profile, []
    here = {"arch": platform.machine(), "os": platform.system().lower()}
    for key, value in here.items():
        wanted = getattr(profile, key)
        if wanted not in (ANY, value):
            faults.append(f"{key} is {value}, the engine is for {wanted}")
    try:
        installed = importlib.metadata.version(profile.runtime)
    except importlib.metadata.PackageNotFoundError:
        faults.append(f"{profile.runtime} is not installed")
    else:
        mine, least = _release(installed), _release(profile.runtime_version)
        if mine[:1] != least[:1] or mine < least:
            faults.append(f"{profile.runtime} is {installed}, the engine was checked with {profile.runtime_version}")
    if faults:
        raise ManifestError(f"{manifest.name} does not fit this machine: {'; '.join(faults)}")


def verified_manifest(engine_dir: Path) -> Manifest:
    """Read the manifest and prove folder and machine against it.

    Raises:
        FileNotFoundError: the folder has no manifest.
        ManifestError: of :func:`kd_steps.edge.manifest.read_manifest`, :func:`verify_files` or :func:`verify_profile`.
        ContractMismatchError: the contract does not fit its digest.
    """
    manifest = read_manifest(engine_dir)
    verify_profile(manifest)
    verify_files(manifest, engine_dir)
    return manifest


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
