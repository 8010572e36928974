"""``python -m kd_steps.edge detect --engine DIR IMAGE...``: detections as JSON lines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kd_steps.edge.detector import Detector
from kd_steps.edge.golden import check_golden
from kd_steps.edge.preprocess import read_picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 1 where an engine or a picture was refused."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "check":
            _print({"engine": str(options.engine), "largest_error": check_golden(options.engine)})
            return 0
        return _detect(options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _detect(options: argparse.Namespace) -> int:
    """A line for each picture; an unreadable one is told on stderr and the rest still run."""
    detector = Detector.load(
        options.engine,
        threads=options.threads,
        confidence=options.confidence,
        iou=options.iou,
        max_detections=options.max_detections,
    )
    names, refused = detector.manifest.classes, 0
    for path in options.images:
        try:
            found, times = detector.detect_timed(read_picture(path))
        except (ValueError, OSError) as error:
            sys.stderr.write(f"error: {error}\n")
            refused += 1
            continue
        rows = zip(found.boxes_xyxy_px.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True)
        detections = [{"class": names[c], "class_id": c, "score": s, "box_xyxy_px": box} for box, s, c in rows]
        _print({"image": str(path), "total_ms": round(times.total_ms, 3), "detections": detections})
    return 1 if refused else 0


def _print(values: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kd_steps.edge", description="Run an engine that Retort exported.")
    commands = parser.add_subparsers(dest="command", required=True)
    detect = commands.add_parser("detect", help="find parts in pictures; one JSON line a picture")
    detect.add_argument("--engine", type=Path, required=True, help="folder with manifest.json")
    detect.add_argument("--threads", type=int, default=1)
    judged = "default: what the engine was judged at, in its manifest"
    detect.add_argument("--confidence", type=float, help=f"least score, 0-1; {judged}")
    detect.add_argument("--iou", type=float, help=f"overlap above which the weaker box is dropped, 0-1; {judged}")
    detect.add_argument("--max-detections", type=int, help=f"a picture; {judged}")
    detect.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    check = commands.add_parser("check", help="run the golden pictures and compare")
    check.add_argument("--engine", type=Path, required=True, help="folder with manifest.json")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
