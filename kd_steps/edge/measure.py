"""Engines are measured where they run: what they find from the least score upwards, and paired latency.

Nothing is judged here, and nothing is measured twice: a finished bundle of the same engine, pictures, knobs, code and
libraries is handed over.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd_steps.edge.bundle import (
    Bundle,
    BundleError,
    BundleNote,
    read_bundle,
    read_detections,
    write_bundle,
    write_detections,
)
from kd_steps.edge.detector import Detector
from kd_steps.edge.finding import Finding, Progress, find, find_in_pictures
from kd_steps.edge.golden import check_golden, read_golden
from kd_steps.edge.identity import code_digest, library_versions, load_average, machine
from kd_steps.edge.latency import measure_interleaved
from kd_steps.edge.manifest import Manifest
from kd_steps.edge.pictures import Picture, listed, pictures_digest
from kd_steps.edge.postprocess import Found
from kd_steps.edge.preprocess import read_picture
from kd_steps.edge.verification import verified_manifest

TIMED_PICTURES = 64  # held in memory while the engines are timed
WORDS = {
    "engine": "the engine",
    "pictures": "the pictures",
    "edge_code": "the code below kd_steps/edge",
    "arch": "the architecture",
    "golden": "the golden pictures",
    "knobs": "how it is measured",
    "libraries": "the libraries",
    "reference": "the engine that it is compared with",
    "cpu_model": "the processor",
}

Say = Callable[[str], None]
FindAll = Callable[[Path, Sequence[Picture], Finding, Progress], Found]


@dataclass(frozen=True)
class Timing:
    """How latency is measured; see :func:`kd_steps.edge.latency.measure_interleaved`.

    Attributes:
        confidence: least score, the one the line acts on: it decides how many boxes postprocessing sees.
        iou: overlap above which the weaker of two boxes of a class is dropped.
        max_detections: most a picture.
        threads: of an engine.
        warm_up_s: unrecorded seconds.
        rounds: least rounds.
        seconds: least duration of the recorded rounds.
        seed: of the order within the rounds.
    """

    confidence: float = 0.5
    iou: float = 0.6
    max_detections: int = 300
    threads: int = 1
    warm_up_s: float = 2.0
    rounds: int = 100
    seconds: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class Common:
    """What all bundles of a measurement share: it is found out once, however many engines there are.

    Attributes:
        pictures: as a bundle keeps them.
        pictures_digest: of these.
        code: digest of the code that measures.
        machine: as JSON values.
    """

    pictures: list[list[str]]
    pictures_digest: str
    code: str
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One engine to measure: its folder, its manifest, where its bundle goes, and what the bundle depends on."""

    engine: Path
    manifest: Manifest
    bundle: Path
    inputs: Mapping[str, Mapping[str, Any]]

    @property
    def unfinished(self) -> Path:
        """Where the bundle lies until it is whole."""
        return self.bundle.with_name(f".{self.bundle.name}.unfinished")


def measure_engines(
    engines: Mapping[Path, Path],
    reference: Path,
    pictures: Sequence[Picture],
    finding: Finding,
    timing: Timing,
    *,
    say: Say,
    progress: Progress,
    latency_again: Collection[Path] = (),
    find_all: FindAll = find_in_pictures,
) -> dict[Path, Bundle]:
    """Measure engines; latency of all that need it in one go, side by side with the reference and its repetition.

    A kill loses the detections of the engine at work, and the latency rounds.

    Args:
        engines: folder of each engine → folder of its bundle.
        reference: folder of the engine that the times are compared with, often the teacher's.
        pictures: what to look at.
        finding: how detections are collected.
        timing: how latency is measured.
        say: called with a line for each engine: handed over, or measured and why.
        progress: called now and then.
        latency_again: engines whose latency is measured again though nothing changed.
        find_all: finds in all pictures what an engine finds; here, or on other machines of the kind.

    Returns:
        The bundle of each engine.

    Raises:
        FileNotFoundError: an engine or a picture is missing.
        ValueError: an engine, this machine or a picture is not what it should be; the message names it.
    """
    against, common = verified_manifest(reference), _common(pictures)
    jobs = [_job(engine, bundle, against, common, finding, timing) for engine, bundle in engines.items()]
    finished: dict[Path, Bundle] = {}
    open_jobs: list[tuple[Job, Bundle | None]] = []
    for job in jobs:
        old, why = _earlier(job)
        if old is not None and not why and job.engine not in latency_again:
            finished[job.engine] = old
            say(f"{job.manifest.name}: measured already; the bundle is handed over")
        else:
            say(f"{job.manifest.name}: measured {why or 'again, its latency alone'}")
            open_jobs.append((job, old))
    errors = []
    for job, old in open_jobs:
        errors.append(check_golden(job.engine))  # an engine that gives other outputs than when built is not that engine
        _find(job, old, pictures, finding, progress, find_all)
    if open_jobs:
        _time(open_jobs, errors, reference, against, common, pictures, timing, progress)
    return {job.engine: finished.get(job.engine) or read_bundle(job.bundle) for job in jobs}


def _common(pictures: Sequence[Picture]) -> Common:
    rows = listed(pictures)
    return Common(rows, pictures_digest(rows), code_digest(), machine())


def _job(engine: Path, bundle: Path, against: Manifest, common: Common, finding: Finding, timing: Timing) -> Job:
    """Prove an engine's folder, and gather what its bundle depends on."""
    manifest = verified_manifest(engine)
    libraries = library_versions(manifest.runtime)
    shared = {
        "engine": manifest.engine_digest,
        "pictures": common.pictures_digest,
        "edge_code": common.code,
        "arch": common.machine["arch"],
    }
    inputs = {
        "detections": {
            **shared,
            "golden": manifest.files[manifest.golden.file].sha256,
            "knobs": asdict(finding),
            "libraries": libraries,
        },
        "latency": {
            **shared,
            "reference": against.engine_digest,
            "knobs": asdict(timing),
            "libraries": library_versions(against.runtime) | libraries,
            "cpu_model": common.machine["cpu_model"],
        },
    }
    return Job(engine, manifest, bundle, inputs)


def _earlier(job: Job) -> tuple[Bundle | None, str]:
    """The bundle of an earlier run, and in words why it is not today's; '' if it is."""
    try:
        old = read_bundle(job.bundle)
    except FileNotFoundError:
        return None, "for the first time"
    except BundleError as error:
        return None, f"again, {error}"
    changed = {
        part: [key for key, value in inputs.items() if old.note.inputs[part].get(key) != value]
        for part, inputs in job.inputs.items()
    }
    words = dict.fromkeys(WORDS[key] for keys in changed.values() for key in keys)
    what = "again" if changed["detections"] else "its latency again"
    return old, f"{what}, as this has changed: {', '.join(words)}" if words else ""


def _find(
    job: Job,
    old: Bundle | None,
    pictures: Sequence[Picture],
    finding: Finding,
    progress: Progress,
    find_all: FindAll,
) -> None:
    """Leave the detections in the job's unfinished folder: an earlier run's where they are of the same inputs."""
    inputs = job.inputs["detections"]
    with suppress(BundleError):
        read_detections(job.unfinished, inputs)  # a run that was killed left them
        return
    shutil.rmtree(job.unfinished, ignore_errors=True)
    job.unfinished.mkdir(parents=True)
    if old is not None and old.note.inputs["detections"] == inputs:
        found, golden = old.found, old.golden
    else:
        stored = [picture for picture, _ in read_golden(job.engine / job.manifest.golden.file)]
        golden = find(job.engine, stored, lambda picture: picture, finding, lambda *_: None)
        found = find_all(job.engine, pictures, finding, progress)
    write_detections(job.unfinished, found, golden, inputs)


def _time(
    jobs: Sequence[tuple[Job, Bundle | None]],
    golden_errors: Sequence[float],
    reference: Path,
    against: Manifest,
    common: Common,
    pictures: Sequence[Picture],
    timing: Timing,
    progress: Progress,
) -> None:
    """Time all jobs' engines with the reference, and write their bundles."""
    import cv2

    folders = list(dict.fromkeys([reference, *(job.engine for job, _ in jobs)]))
    detectors = [
        Detector.load(
            folder,
            threads=timing.threads,
            confidence=timing.confidence,
            iou=timing.iou,
            max_detections=timing.max_detections,
        )
        for folder in folders
    ]
    timed = [p for p in pictures if p.split == "test"] or list(pictures)
    threads_before, load_before = cv2.getNumThreads(), load_average()
    cv2.setNumThreads(timing.threads)
    try:
        times_ms = measure_interleaved(
            [*detectors, detectors[0]],  # the reference once more: the control
            [read_picture(p.path) for p in timed[:TIMED_PICTURES]],
            warm_up_s=timing.warm_up_s,
            rounds=timing.rounds,
            seconds=timing.seconds,
            seed=timing.seed,
            on_round=lambda done: progress("latency", min(done, timing.rounds), timing.rounds),
        )
    finally:
        cv2.setNumThreads(threads_before)
    load_after = load_average()
    for (job, old), golden_error in zip(jobs, golden_errors, strict=True):
        again = old is not None and old.note.inputs == job.inputs
        note = BundleNote(
            name=job.manifest.name,
            target=job.manifest.target,
            engine_digest=job.manifest.engine_digest,
            reference_digest=against.engine_digest,
            pictures=common.pictures,
            inputs=job.inputs,
            machine=common.machine,
            golden_error=golden_error,
            load_before=load_before,
            load_after=load_after,
            attempts=old.note.attempts + 1 if old is not None and again else 1,
        )
        write_bundle(job.bundle, job.unfinished, note, times_ms[:, [folders.index(job.engine), 0, len(folders)]])
