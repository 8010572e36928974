"""A verified engine folder becomes something that finds parts in pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd_steps.edge.engines import Engine, EngineError, open_engine
from kd_steps.edge.manifest import Manifest, OperatingPoint
from kd_steps.edge.postprocess import Detections, decode
from kd_steps.edge.preprocess import Preprocessor
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
        confidence: least score of a detection; None: the manifest's operating point, here and below.
        iou: overlap above which the weaker of two boxes of a class is dropped.
        max_detections: most detections a picture.

    Raises:
        ContractMismatchError: the contract asks for something that this runtime does not implement.
        EngineError: the network does not take or give what the manifest says.
        ManifestError: a threshold is impossible.
    """

    def __init__(
        self,
        manifest: Manifest,
        engine: Engine,
        *,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
    ) -> None:
        self.manifest, self.engine, point = manifest, engine, manifest.operating
        self.operating = OperatingPoint(
            confidence=point.confidence if confidence is None else confidence,
            iou=point.iou if iou is None else iou,
            max_detections=point.max_detections if max_detections is None else max_detections,
        )
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
            ContractMismatchError: the contract is damaged or not implemented here.
            EngineError: the runtime refuses the engine.
        """
        manifest = verified_manifest(engine_dir)
        Preprocessor(manifest.contract)  # refuse a contract before a runtime opens the file
        model_path = engine_dir / manifest.model_file
        engine = open_engine(model_path, manifest.runtime, threads, manifest.inference_precision)
        return cls(manifest, engine, confidence=confidence, iou=iou, max_detections=max_detections)

    def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Find parts in one picture, uint8 of shape (height, width, 3) in BGR; boxes are in its pixels."""
        return self.detect_timed(image_bgr)[0]

    def detect_timed(self, image_bgr: NDArray[np.uint8]) -> tuple[Detections, PhaseTimes]:
        """As :meth:`detect`, with the time of each phase."""
        start_s = time.perf_counter()
        tensor, geometry = self._preprocess(image_bgr)
        preprocessed_s = time.perf_counter()
        output = self.engine.run(tensor)
        inferred_s = time.perf_counter()
        found = decode(
            output,
            self.manifest.output_format,
            confidence=self.operating.confidence,
            iou=self.operating.iou,
            max_detections=self.operating.max_detections,
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
