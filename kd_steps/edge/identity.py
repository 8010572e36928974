"""What a measurement depends on besides engine and pictures: this code, these libraries, this machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any


def code_digest() -> str:
    """sha256 (hex) of the source files of this package, but for its command line, which is no part of a measurement."""
    sources = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()


def release(library: str) -> str:
    """The release of an installed library, by its name in the registry.

    A version may end in where a build came from, as ``2.15.0+cpu`` does: the same release, the same numbers.
    """
    return importlib.metadata.version(library).partition("+")[0]


def library_versions(runtime: str) -> dict[str, str]:
    """Versions of the runtime and of what prepares its pictures."""
    import cv2

    installed = {name: importlib.metadata.version(name) for name in (runtime, "numpy")}
    return {**installed, "opencv": cv2.__version__}


def machine() -> dict[str, Any]:
    """The machine as JSON values: architecture, system, processor, and the cores that this process may use."""
    return {
        "arch": platform.machine(),
        "os": platform.system().lower(),
        "os_release": platform.release(),
        "python": platform.python_version(),
        "cpu_model": _cpu_model(),
        "cores": cores(),
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float | None:
    """Processes that ran or waited for a core, a minute's mean, this one among them; None where nobody counts them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu_model() -> str:
    """The processor's name, as the kernel or the platform tells it."""
    told = Path("/proc/cpuinfo")
    if told.is_file():
        for line in told.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "Hardware"):
                return value.strip()
    return platform.processor() or "unknown"
