"""Runs shipped engines over pictures: what they find, and how long they take."""

from __future__ import annotations

import hashlib
import importlib.metadata
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import kd_steps.edge
from kd_steps.adapters.files import atomic_path
from kd_steps.core.data.boxes import CORNERS
from kd_steps.edge.contract import canonical_digest
from kd_steps.edge.detector import Detector
from kd_steps.edge.latency import PHASES, measure_interleaved
from kd_steps.edge.manifest import MANIFEST_FILE, Manifest, digest_of
from kd_steps.edge.preprocess import read_picture

COLUMNS = ["image_id", "split", "class_id", "score", *CORNERS]


def detections_fingerprint(
    engine_dir: Path, manifest: Manifest, dataset_digest: str, class_names: Sequence[str], knobs: Mapping[str, float]
) -> str:
    """sha256 of all that an engine's detections depend on: engine, pictures, knobs, and the code that runs it."""
    sources = sorted(Path(kd_steps.edge.__path__[0]).glob("[!_]*.py"))  # the command line is no part of it
    code = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
    libraries = {name: importlib.metadata.version(name) for name in (manifest.runtime, "numpy")}
    engine = digest_of(engine_dir / MANIFEST_FILE).sha256  # the manifest holds the digests of the other files
    return canonical_digest([engine, dataset_digest, list(class_names), dict(knobs), code, libraries])


def detections_of(path: Path, fingerprint: str, detect: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Detections in ``path`` where an earlier run with this fingerprint finished them; else made and kept there.

    The fingerprint lies inside the file, so that a kill cannot separate the two.
    """
    if path.exists():
        table: pd.DataFrame = pd.read_parquet(path)
        if table.attrs.get("fingerprint") == fingerprint:
            return table
    table = detect()
    table.attrs["fingerprint"] = fingerprint
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)
    return table


def detect_all(
    engine_dir: Path,
    pictures: pd.DataFrame,
    pictures_dir: Path,
    class_names: Sequence[str],
    *,
    confidence: float,
    iou: float,
    max_detections: int,
    workers: int,
) -> pd.DataFrame:
    """Everything an engine finds, with several detectors of one thread each.

    Args:
        engine_dir: folder of the engine.
        pictures: columns image_id, split, path.
        pictures_dir: what the paths are relative to.
        class_names: the class ids of the table are positions in it; every class of the engine is among them.
        confidence: least score.
        iou: overlap above which the weaker of two boxes of a class is dropped.
        max_detections: most detections a picture.
        workers: detectors at work at a time.

    Returns:
        Columns image_id, split, class_id, score, x1_px, y1_px, x2_px, y2_px, in the order of the pictures.
    """
    idle: queue.SimpleQueue[Detector] = queue.SimpleQueue()
    for _ in range(workers):
        idle.put(Detector.load(engine_dir, confidence=confidence, iou=iou, max_detections=max_detections))
    rows = list(pictures[["image_id", "split", "path"]].itertuples(index=False, name=None))

    def detect(row: tuple[str, str, str]) -> pd.DataFrame:
        image_id, split, path = row
        detector = idle.get()
        try:
            found = detector.detect(read_picture(pictures_dir / path))
            names = detector.manifest.classes
        finally:
            idle.put(detector)
        class_of = np.array([class_names.index(name) for name in names], dtype=np.int64)
        table = pd.DataFrame(found.boxes_xyxy_px.astype(np.float64), columns=CORNERS)
        return table.assign(
            image_id=image_id, split=split, class_id=class_of[found.class_ids], score=found.scores.astype(np.float64)
        )[COLUMNS]

    with ThreadPoolExecutor(workers) as pool:
        tables = list(tqdm(pool.map(detect, rows), total=len(rows), desc=f"detect {engine_dir.name}", unit="picture"))
    joined: pd.DataFrame = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    return joined


def time_engines(
    engine_dirs: Mapping[str, Path],
    picture_paths: Sequence[Path],
    *,
    threads: int,
    confidence: float,
    iou: float,
    max_detections: int,
    warm_up_s: float,
    rounds: int,
    seconds: float,
    seed: int,
) -> pd.DataFrame:
    """Time engines side by side in this process; decoding the picture file is not part of it.

    Args:
        engine_dirs: name in the table → folder; two names of one folder share one detector, which is the control.
        picture_paths: pictures that are taken in turn; all are held in memory.
        threads: threads an engine.
        confidence: least score, the one the line acts on: it decides how many boxes postprocessing sees.
        iou: overlap above which the weaker of two boxes of a class is dropped.
        max_detections: most detections a picture.
        warm_up_s: unrecorded seconds.
        rounds: least rounds.
        seconds: least duration of the recorded rounds.
        seed: of the order within the rounds.

    Returns:
        Columns round, engine, preprocess_ms, inference_ms, postprocess_ms, total_ms.
    """
    import cv2

    cv2.setNumThreads(threads)
    opened = {
        folder: Detector.load(folder, threads=threads, confidence=confidence, iou=iou, max_detections=max_detections)
        for folder in dict.fromkeys(engine_dirs.values())
    }
    pictures_bgr = [read_picture(path) for path in picture_paths]
    with tqdm(total=rounds, desc="latency", unit="round") as bar:
        times_ms = measure_interleaved(
            [opened[folder] for folder in engine_dirs.values()],
            pictures_bgr,
            warm_up_s=warm_up_s,
            rounds=rounds,
            seconds=seconds,
            seed=seed,
            on_round=lambda _: bar.update(),
        )
    n_rounds = len(times_ms)
    table = pd.DataFrame(times_ms.reshape(-1, len(PHASES)), columns=list(PHASES))
    table.insert(0, "round", np.repeat(np.arange(n_rounds), len(engine_dirs)))
    table.insert(1, "engine", list(engine_dirs) * n_rounds)
    return table
