"""Whether what a stage will make can be kept: looked at before the work begins, not after hours of it."""

from __future__ import annotations

import configparser
import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

FREE_BYTES = 200_000_000  # least free space with which a stage begins: weights, a shard, logs
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
OUTPUTS = ("data", "models", "metrics", "plots", "evaluation", "report")


def require_room(root: Path, free_bytes: int = FREE_BYTES) -> None:
    """Look at the folders of outputs and at DVC's cache.

    Raises:
        OSError: one of them cannot be written, or its disk is nearly full.
    """
    cache = dvc_cache(root)
    places = [root, *(root / name for name in OUTPUTS), *([cache] if cache else [])]
    for place in filter(Path.is_dir, places):
        kept = "; DVC could not keep what this stage makes" if place == cache else ""
        if not os.access(place, os.W_OK | os.X_OK):
            raise OSError(
                f"{place}: read-only for user {os.getuid()}{kept}; give it the right to write, then run again"
            )
        free = shutil.disk_usage(place).free
        if free < free_bytes:
            raise OSError(
                f"{place}: no space left on device: {free / 1e6:.0f} MB are free, a stage begins with "
                f"{free_bytes / 1e6:.0f} MB{kept}; make room (`dvc gc --workspace` removes what the workspace does not "
                "use), then run again"
            )


def fullest(root: Path) -> str:
    """The folder whose disk has the least free space, and how much: for an error that names none."""
    places = [place for place in (root, dvc_cache(root), Path(tempfile.gettempdir())) if place and place.is_dir()]
    place = min(places, key=lambda found: shutil.disk_usage(found).free)
    return f"{place} has {shutil.disk_usage(place).free / 1e6:.0f} MB free"


def dvc_cache(root: Path) -> Path | None:
    """The folder that DVC keeps outputs in; None without DVC."""
    if not (root / ".dvc").is_dir():
        return None
    # DVC's own reader of its settings takes longer to import than a stage takes to start.
    settings = configparser.ConfigParser(strict=False, interpolation=None)
    with suppress(configparser.Error, UnicodeDecodeError):
        settings.read([root / ".dvc/config", root / ".dvc/config.local"], encoding="utf-8")
    named = settings.get("cache", "dir", fallback=None)
    return root / ".dvc" / named if named else root / ".dvc/cache"
