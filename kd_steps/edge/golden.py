"""The self-test that travels with an engine: pictures, and the raw outputs it must give for them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd_steps.edge.detector import Detector
from kd_steps.edge.manifest import ManifestError
from kd_steps.edge.postprocess import output_errors
from kd_steps.edge.release import differing_verdicts, verdicts

GOLDEN_FILE = "golden.npz"


class GoldenMismatchError(ValueError):
    """An engine no longer gives the outputs it was built with, or the verdicts it was released with."""


def write_golden(path: Path, pictures_bgr: Sequence[NDArray[np.uint8]], outputs: Sequence[NDArray[np.float32]]) -> None:
    """Store pictures, uint8 of shape (height, width, 3), each with its raw output; same input, same bytes."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for index, (picture, output) in enumerate(zip(pictures_bgr, outputs, strict=True)):
        arrays |= {f"picture_{index}": picture, f"output_{index}": output}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read_golden(path: Path) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """The stored (picture, raw output) pairs.

    Raises:
        ManifestError: the file holds something else.
    """
    with np.load(path, allow_pickle=False) as stored:
        count = len(stored.files) // 2
        names = {f"{kind}_{index}" for kind in ("picture", "output") for index in range(count)}
        if not count or names != set(stored.files):
            raise ManifestError(f"{path}: holds {sorted(stored.files)}, not pictures with outputs")
        return [(stored[f"picture_{i}"], stored[f"output_{i}"]) for i in range(count)]


def check_golden(engine_dir: Path, *, threads: int = 1) -> float:
    """Run an engine on its golden pictures, to the raw output; and a release to its verdicts at its thresholds.

    Returns:
        The largest difference, see :func:`kd_steps.edge.postprocess.output_errors`.

    Raises:
        GoldenMismatchError: it is above the manifest's tolerance, or a verdict is another.
        ManifestError: the folder or this machine is not what the manifest says.
    """
    detector = Detector.load(engine_dir, threads=threads)
    manifest = detector.manifest
    pairs = read_golden(engine_dir / manifest.golden.file)
    if len(pairs) != manifest.golden.images:
        raise ManifestError(f"{engine_dir}: {len(pairs)} golden pictures, the manifest says {manifest.golden.images}")
    error = max(
        float(
            output_errors(
                detector.raw_output(picture), expected, manifest.output_format, manifest.contract.imgsz_px
            ).max()
        )
        for picture, expected in pairs
    )
    if not error <= manifest.golden.tolerance:
        raise GoldenMismatchError(
            f"{engine_dir}: golden outputs differ by {error:.3g}, allowed {manifest.golden.tolerance:.3g}; "
            "this machine or its libraries compute something else, build the engine for it"
        )
    _require_verdicts(engine_dir, detector, [picture for picture, _ in pairs])
    return error


def _require_verdicts(engine_dir: Path, detector: Detector, pictures_bgr: Sequence[NDArray[np.uint8]]) -> None:
    """Hold the detections of a release on its golden pictures to the verdicts stored with it."""
    if detector.release is None:
        return
    least, tolerance = detector.release.thresholds.confidence, detector.manifest.golden.tolerance
    for index, (picture, wanted) in enumerate(zip(pictures_bgr, detector.release.golden, strict=True)):
        found = detector.detect(picture)
        told = verdicts(detector.manifest, found.class_ids, found.scores, found.boxes_xyxy_px)
        if differing := differing_verdicts(wanted, told, least, tolerance):
            raise GoldenMismatchError(
                f"{engine_dir}: {len(differing)} verdicts on golden picture {index} are not those of the release, the "
                f"first: {differing[0]}; this machine or its libraries compute something else, build the engine for it"
            )
