"""A verified engine folder becomes something that finds parts in pictures."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd_steps.edge.engines import Engine, EngineError, open_engine
from kd_steps.edge.manifest import RELEASE_FILE, Manifest
from kd_steps.edge.postprocess import Detections, decode
from kd_steps.edge.preprocess import Preprocessor
from kd_steps.edge.release import OperatingPoint, Release, ReleaseError, read_release
from kd_steps.edge.verification import verified_manifest


@dataclass(frozen=True)
class PhaseTimes:
    """How long one picture took, ms."""

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        """Sum of the three phases."""
        return self.preprocess_ms + self.inference_ms + self.postprocess_ms


class Detector:
    """An engine with its preprocessing and postprocessing.

    Args:
        manifest: of the engine.
        engine: the opened network.
        release: of the engine, where it is one; a detector without any thresholds gives raw outputs only.
        confidence: least score of a detection; None: the release's, here and below.
        iou: overlap above which the weaker of two boxes of a class is dropped.
        max_detections: most detections a picture.

    Raises:
        ContractMismatchError: the contract asks for something that this runtime does not implement.
        EngineError: the network does not take or give what the manifest says.
        ReleaseError: a threshold is impossible.
    """

    def __init__(
        self,
        manifest: Manifest,
        engine: Engine,
        release: Release | None = None,
        *,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
    ) -> None:
        self.manifest, self.engine, self.release = manifest, engine, release
        released = asdict(release.thresholds) if release else {}
        given = {"confidence": confidence, "iou": iou, "max_detections": max_detections}
        chosen = released | {name: value for name, value in given.items() if value is not None}
        self._thresholds = OperatingPoint(**chosen) if chosen.keys() == given.keys() else None
        self._preprocess = Preprocessor(manifest.contract)
        _require_shape(manifest, engine)

    @classmethod
    def load(
        cls,
        engine_dir: Path,
        *,
        threads: int = 1,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
    ) -> Detector:
        """Verify an engine folder, then open it.

        Raises:
            FileNotFoundError: the folder has no manifest.
            ManifestError: the folder or this machine is not what the manifest says.
            ReleaseError: the release in it is damaged or another engine's, or a threshold is impossible.
            ContractMismatchError: the contract is damaged or not implemented here.
            EngineError: the runtime refuses the engine.
        """
        manifest = verified_manifest(engine_dir)
        release = read_release(engine_dir, manifest)
        Preprocessor(manifest.contract)  # refuse a contract before a runtime opens the file
        model_path = engine_dir / manifest.model_file
        engine = open_engine(model_path, manifest.runtime, threads, manifest.inference_precision)
        return cls(manifest, engine, release, confidence=confidence, iou=iou, max_detections=max_detections)

    @property
    def thresholds(self) -> OperatingPoint:
        """What decides which detections are given.

        Raises:
            ReleaseError: the folder holds an engine alone, and not all thresholds were given.
        """
        if self._thresholds is None:
            raise ReleaseError(
                f"engine {self.manifest.name} has no {RELEASE_FILE} that says its thresholds; take a folder of "
                "models/releases, or give --confidence, --iou and --max-detections"
            )
        return self._thresholds

    def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Find parts in one picture, uint8 of shape (height, width, 3) in BGR; boxes are in its pixels."""
        return self.detect_timed(image_bgr)[0]

    def detect_timed(self, image_bgr: NDArray[np.uint8]) -> tuple[Detections, PhaseTimes]:
        """As :meth:`detect`, with the time of each phase."""
        thresholds = self.thresholds
        start_s = time.perf_counter()
        tensor, geometry = self._preprocess(image_bgr)
        preprocessed_s = time.perf_counter()
        output = self.engine.run(tensor)
        inferred_s = time.perf_counter()
        found = decode(
            output,
            self.manifest.output_format,
            confidence=thresholds.confidence,
            iou=thresholds.iou,
            max_detections=thresholds.max_detections,
        )
        detections = Detections(geometry.to_picture(found.boxes_xyxy_px), found.scores, found.class_ids)
        end_s = time.perf_counter()
        times = PhaseTimes(
            (preprocessed_s - start_s) * 1e3, (inferred_s - preprocessed_s) * 1e3, (end_s - inferred_s) * 1e3
        )
        return detections, times

    def raw_output(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's output for one picture, before any threshold; see :func:`kd_steps.edge.postprocess.decode`."""
        return self.engine.run(self._preprocess(image_bgr)[0])


def _require_shape(manifest: Manifest, engine: Engine) -> None:
    """Run one grey picture: a network with another input size or class count is refused here, not on the line."""
    side_px = manifest.contract.imgsz_px
    try:
        output = engine.run(np.full((1, 3, side_px, side_px), 0.5, dtype=np.float32))
    except Exception as error:  # each runtime has exceptions of its own
        raise EngineError(f"{manifest.name}: the network refuses an input of {side_px} px: {error}") from error
    classes = len(manifest.classes)
    fits = output.ndim == 3 and output.shape[0] == 1
    if manifest.output_format == "anchors":
        fits = fits and output.shape[1] == 4 + classes
    else:
        fits = fits and output.shape[2] == 6
    if not fits:
        raise EngineError(
            f"{manifest.name}: the network's output has shape {output.shape}, which does not fit output_format "
            f"{manifest.output_format!r} with {classes} classes; export the engine again"
        )
