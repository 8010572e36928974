"""A release: an engine with the thresholds the line acts on, and the verdicts it must give on the golden pictures.

``release.json`` lies in the engine's folder beside the manifest. It is written after the thresholds are chosen; what is
registered, shipped and named in a record of an inspection is the release, by its digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_steps.edge.contract import canonical_digest
from kd_steps.edge.manifest import RELEASE_FILE, Manifest
from kd_steps.edge.postprocess import Found

SCHEMA = 1
MEND = "fetch the release again, or let `dvc repro evaluate` write it"
SAME_PLACE_IOU = 0.5  # as AP50 counts a hit: the same verdict on the same part


class ReleaseError(ValueError):
    """A release is damaged, or not that of its engine; the message names the file and the mend."""


@dataclass(frozen=True)
class OperatingPoint:
    """The thresholds that the line acts on: what the gate judged false alarms and latency at.

    Attributes:
        confidence: least score of a detection, 0-1.
        iou: overlap above which the weaker of two boxes of a class is dropped, 0-1.
        max_detections: most detections a picture.
    """

    confidence: float
    iou: float
    max_detections: int

    def __post_init__(self) -> None:
        if not (0 < self.confidence < 1 and 0 < self.iou <= 1 and self.max_detections >= 1):
            raise ReleaseError(f"{self} is impossible: shares lie between 0 and 1, counts above 0")


@dataclass(frozen=True)
class Verdict:
    """One part that is to be found in a golden picture.

    Attributes:
        class_number: by which the line knows its class.
        score: 0-1.
        box_xyxy_px: corners in the picture.
    """

    class_number: int
    score: float
    box_xyxy_px: tuple[float, float, float, float]


@dataclass(frozen=True)
class Release:
    """What ``release.json`` says.

    Attributes:
        engine_digest: of the engine beside it.
        thresholds: that the line acts on.
        golden: for each golden picture, what is to be found in it.
    """

    engine_digest: str
    thresholds: OperatingPoint
    golden: tuple[tuple[Verdict, ...], ...]

    @property
    def release_digest(self) -> str:
        """sha256 (hex) of engine, thresholds and golden verdicts."""
        return canonical_digest(self._values())

    def to_dict(self) -> dict[str, Any]:
        """JSON values; :meth:`from_dict` gives the release back."""
        return {"schema": SCHEMA, "release_digest": self.release_digest, **self._values()}

    def _values(self) -> dict[str, Any]:
        golden = [[{**asdict(v), "box_xyxy_px": list(v.box_xyxy_px)} for v in verdicts] for verdicts in self.golden]
        return {"engine_digest": self.engine_digest, "thresholds": asdict(self.thresholds), "golden": golden}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Release:
        """Read JSON values.

        Raises:
            ReleaseError: another schema, an impossible threshold, or a digest that is not that of the rest.
        """
        if (schema := values.get("schema")) != SCHEMA:
            raise ReleaseError(f"schema is {schema!r}, this runtime reads {SCHEMA}; {MEND}")
        golden = tuple(
            tuple(Verdict(v["class_number"], v["score"], tuple(v["box_xyxy_px"])) for v in verdicts)
            for verdicts in values["golden"]
        )
        release = cls(values["engine_digest"], OperatingPoint(**values["thresholds"]), golden)
        if release.release_digest != values["release_digest"]:
            raise ReleaseError(f"release_digest is not that of the rest, which was changed; {MEND}")
        return release


def make_release(manifest: Manifest, thresholds: OperatingPoint, golden: Found) -> Release:
    """The release of an engine at some thresholds.

    Args:
        manifest: of the engine.
        thresholds: that the line is to act on.
        golden: detections on the golden pictures, from a lower score upwards, at the same overlap.
    """
    return Release(manifest.engine_digest, thresholds, golden_verdicts(manifest, thresholds, golden))


def golden_verdicts(manifest: Manifest, thresholds: OperatingPoint, golden: Found) -> tuple[tuple[Verdict, ...], ...]:
    """What the line would say of the golden pictures."""
    told = []
    for index in range(manifest.golden.images):
        own = golden.of_image(index)
        kept = np.flatnonzero(own.score >= thresholds.confidence)[: thresholds.max_detections]
        told.append(verdicts(manifest, own.column[kept], own.score[kept], own.box_xyxy_px[kept]))
    return tuple(told)


def verdicts(
    manifest: Manifest,
    columns: NDArray[np.integer[Any]],
    scores: NDArray[np.float32],
    boxes_xyxy_px: NDArray[np.float32],
) -> tuple[Verdict, ...]:
    """Detections as verdicts: scores to 1e-4, boxes to a hundredth of a pixel."""
    rows = zip(columns.tolist(), scores.tolist(), boxes_xyxy_px.tolist(), strict=True)
    return tuple(
        Verdict(manifest.columns[column], round(score, 4), (round(x1, 2), round(y1, 2), round(x2, 2), round(y2, 2)))
        for column, score, (x1, y1, x2, y2) in rows
    )


def read_release(engine_dir: Path, manifest: Manifest) -> Release | None:
    """The release in an engine's folder; None where the folder holds an engine alone.

    Raises:
        ReleaseError: it is damaged, of another version, or that of another engine.
    """
    path = engine_dir / RELEASE_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ReleaseError(f"expected an object, found {type(values).__name__}; {MEND}")
        release = Release.from_dict(values)
        if release.engine_digest != manifest.engine_digest:
            raise ReleaseError(f"it is the release of another engine, {release.engine_digest}; {MEND}")
        if len(release.golden) != manifest.golden.images:
            raise ReleaseError(f"verdicts on {len(release.golden)} golden pictures; {MEND}")
    except ReleaseError as error:
        raise ReleaseError(f"{path}: {error}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ReleaseError(f"{path}: damaged ({error}); {MEND}") from error
    return release


def differing_verdicts(
    wanted: Sequence[Verdict], found: Sequence[Verdict], confidence: float, tolerance: float
) -> list[Verdict]:
    """Verdicts of the one list that have no like in the other: same class, same place, scores within the tolerance.

    A verdict whose score lies within the tolerance of the threshold may be missing: rounding decides it.
    """
    return [
        verdict
        for mine, others in ((wanted, found), (found, wanted))
        for verdict in mine
        if verdict.score - confidence > tolerance and not any(_same(verdict, other, tolerance) for other in others)
    ]


def _same(one: Verdict, other: Verdict, tolerance: float) -> bool:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = one.box_xyxy_px, other.box_xyxy_px
    shared = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    same_place = one.box_xyxy_px == other.box_xyxy_px or (union > 0 and shared / union >= SAME_PLACE_IOU)
    return one.class_number == other.class_number and same_place and abs(one.score - other.score) <= tolerance
