"""``python -m kd_steps.edge``: detect parts in pictures, check an engine, or measure it into a bundle."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kd_steps.edge.detector import Detector
from kd_steps.edge.finding import Finding
from kd_steps.edge.golden import check_golden
from kd_steps.edge.manifest import read_manifest
from kd_steps.edge.measure import Timing, measure_engines
from kd_steps.edge.pictures import pictures_of
from kd_steps.edge.preprocess import read_picture
from kd_steps.edge.release import read_release


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 1 where an engine or a picture was refused."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "check":
            return _check(options.engine)
        return _measure(options) if options.command == "measure" else _detect(options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _check(folder: Path) -> int:
    """The golden pictures, and which engine and release gave what they should."""
    error, manifest = check_golden(folder), read_manifest(folder)
    release = read_release(folder, manifest)
    digests = {"engine_digest": manifest.engine_digest, "release_digest": release.release_digest if release else None}
    _print({"engine": str(folder), "largest_error": error, **digests})
    return 0


def _detect(options: argparse.Namespace) -> int:
    """A line for each picture; an unreadable one is told on stderr and the rest still run."""
    detector = Detector.load(
        options.engine,
        threads=options.threads,
        confidence=options.confidence,
        iou=options.iou,
        max_detections=options.max_detections,
    )
    manifest, refused = detector.manifest, 0
    _ = detector.thresholds  # without any, say so once and not for every picture
    for path in options.images:
        try:
            found, times = detector.detect_timed(read_picture(path))
        except (ValueError, OSError) as error:
            sys.stderr.write(f"error: {error}\n")
            refused += 1
            continue
        rows = zip(found.boxes_xyxy_px.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True)
        detections = [
            {"class": manifest.classes[c], "class_number": manifest.columns[c], "score": s, "box_xyxy_px": box}
            for box, s, c in rows
        ]
        _print({"image": str(path), "total_ms": round(times.total_ms, 3), "detections": detections})
    return 1 if refused else 0


def _measure(options: argparse.Namespace) -> int:
    """A bundle of one engine; without a reference it is timed against itself."""
    least = Finding(options.least_score, options.iou, options.max_detections)
    timing = Timing(
        confidence=options.confidence,
        iou=options.iou,
        max_detections=options.max_detections,
        threads=options.threads,
        warm_up_s=options.warm_up_s,
        rounds=options.rounds,
        seconds=options.seconds,
        seed=options.seed,
    )
    bundles = measure_engines(
        {options.engine: options.out},
        options.reference or options.engine,
        pictures_of(options.pictures),
        least,
        timing,
        say=lambda line: _tell(line, end="\n"),
        progress=_progress(),
    )
    note = bundles[options.engine].note
    _print({"bundle": str(options.out), "engine_digest": note.engine_digest, "load_per_core": note.load_per_core})
    return 0


def _progress() -> Callable[[str, int, int], None]:
    """Tells on stderr how far a measurement is, once a second and at its end."""
    told_s, ended = 0.0, ""

    def tell(what: str, done: int, count: int) -> None:
        nonlocal told_s, ended
        if what != ended and (done == count or time.monotonic() - told_s > 1):
            told_s, ended = time.monotonic(), what if done == count else ""
            _tell(f"\r{what}: {done} of {count}", end="\n" if done == count else "")

    return tell


def _tell(line: str, end: str) -> None:
    sys.stderr.write(line + end)
    sys.stderr.flush()


def _print(values: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="retort-edge", description="Run an engine that Retort exported.")
    commands = parser.add_subparsers(dest="command", required=True)
    detect = commands.add_parser("detect", help="find parts in pictures; one JSON line a picture")
    detect.add_argument(
        "--engine", type=Path, required=True, help="folder of a release, such as models/releases/onnx-fp32"
    )
    detect.add_argument("--threads", type=int, default=1)
    judged = "default: what it was judged at, in its release.json"
    detect.add_argument("--confidence", type=float, help=f"least score, 0-1; {judged}")
    detect.add_argument("--iou", type=float, help=f"overlap above which the weaker box is dropped, 0-1; {judged}")
    detect.add_argument("--max-detections", type=int, help=f"a picture; {judged}")
    detect.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    check = commands.add_parser("check", help="run the golden pictures and compare outputs, and verdicts of a release")
    check.add_argument("--engine", type=Path, required=True, help="folder with manifest.json")
    measure = commands.add_parser("measure", help="measure an engine on this machine into a folder that can travel")
    measure.add_argument("--engine", type=Path, required=True, help="folder with manifest.json")
    measure.add_argument("--reference", type=Path, help="engine whose times stand beside, often the teacher's")
    pictures = "folder with val/, test/ and defect_free/, or a text file with a path a line"
    measure.add_argument("--pictures", type=Path, required=True, help=pictures)
    measure.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    finding, timing = Finding(), Timing()
    measure.add_argument("--least-score", type=float, default=finding.least_score, help="detections below are left out")
    measure.add_argument("--confidence", type=float, default=timing.confidence, help="the line's, for the latency")
    for name in ("iou", "max_detections", "threads", "warm_up_s", "rounds", "seconds", "seed"):
        value = getattr(timing, name)
        measure.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
