"""Engines become releases: the engine, the thresholds it was judged at, and its verdicts on the golden pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from kd_steps.adapters.files import write_json
from kd_steps.edge.manifest import RELEASE_FILE
from kd_steps.edge.release import OperatingPoint, make_release
from kd_steps.jobs.measure_engines import HERE, Measured

SHIPPED_ROLE = "student"


def release_engines(
    measured: Sequence[Measured], engines: Path, releases: Path, thresholds: OperatingPoint
) -> dict[str, str]:
    """Write a folder a release, complete and ready to ship.

    Args:
        measured: engines with their bundles; those measured here that may ship become releases.
        engines: folder of the engines' folders, which stay as they are.
        releases: folder of the releases, written anew.
        thresholds: that the line is to act on.

    Returns:
        Engine → release digest.
    """
    shutil.rmtree(releases, ignore_errors=True)
    releases.mkdir(parents=True)
    digests = {}
    for each in measured:
        if each.manifest.role == SHIPPED_ROLE and each.where == HERE:
            release = make_release(each.manifest, thresholds, each.bundle.golden)
            partial = shutil.copytree(engines / each.engine, releases / f".{each.engine}.partial")
            write_json(partial / RELEASE_FILE, release.to_dict())
            partial.rename(releases / each.engine)
            digests[each.engine] = release.release_digest
    return digests
