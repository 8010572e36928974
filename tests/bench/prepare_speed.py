"""How fast `prepare` is on pictures of 640 × 640 px, and whether its memory grows with their number.

Run it on a quiet machine: ``python tests/bench/prepare_speed.py``. It prints what it measures and writes
``tests/bench/results/prepare_speed.json``. With RETORT_DEEPPCB set, the real boards (a class held out and erased) too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import yaml

REPOSITORY = Path(__file__).parents[2]
RESULT = REPOSITORY / "tests/bench/results/prepare_speed.json"
SIDE_PX = 640
PICTURES = 250
SCALES = (1, 4, 16)
TARGET_IMAGES_PER_S = 150
MIB = 2**20


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="prepare_speed-") as name:
        rows = [measure_yolo(Path(name) / f"{scale}x", scale * PICTURES) for scale in SCALES]
        if "RETORT_DEEPPCB" in os.environ:
            held_out = {"classes": ["pin-hole"], "shots": 10}
            rows.append({"source": "deeppcb"} | measure(project(Path(name) / "boards", "deeppcb", held_out, {})))
    cores = len(os.sched_getaffinity(0))
    result = {"cores": cores, "side_px": SIDE_PX, "target_images_per_s": TARGET_IMAGES_PER_S, "runs": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def measure_yolo(root: Path, pictures: int) -> dict[str, Any]:
    """Draw a set, then prepare it; a tenth each is validation and test."""
    for number in range(pictures):
        split = {0: "test", 1: "val"}.get(number % 10, "train")
        for kind, suffix, data in (("images", ".jpg", jpeg(number)), ("labels", ".txt", b"0 0.5 0.5 0.1 0.1\n")):
            path = root / "source" / kind / split / f"{number:05d}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    (root / "source/data.yaml").write_text("names: [fault]\n")
    values = project(root, "yolo", {"classes": []}, {"path": str(root / "source")})
    return {"source": "yolo"} | measure(values)


def jpeg(seed: int) -> bytes:
    """A picture as heavy to decode as a photograph of a board (about 90 kB), unlike all others."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(0, 200, (12, 12, 3), dtype=np.uint8), (SIDE_PX, SIDE_PX))
    fine = cv2.resize(rng.integers(0, 55, (SIDE_PX // 3, SIDE_PX // 3, 3), dtype=np.uint8), (SIDE_PX, SIDE_PX))
    return cv2.imencode(".jpg", coarse + fine, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def project(root: Path, kind: str, new_parts: dict[str, Any], source: dict[str, Any]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["prepare"]["source"]["kind"] = kind
    params["prepare"]["source"][kind] |= source
    params["prepare"]["new_parts"] |= new_parts
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    command = [sys.executable, "-m", "kd_steps.jobs.class_tool", "add", "--from-source"]
    subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True)
    return root


def measure(root: Path) -> dict[str, Any]:
    """Run the stage; pictures a second over the whole process, start-up included, and peak memory of all processes.

    Memory is the proportional set size: a page that processes share counts once.
    """
    command = [sys.executable, "-m", "kd_steps.prepare"]
    started = time.perf_counter()
    process = psutil.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    peak_bytes, cpu_s = 0, 0.0
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak_bytes = max(peak_bytes, sum(member.memory_full_info().pss for member in family))
            cpu_s = max(cpu_s, sum(sum(member.cpu_times()[:2]) for member in family))
        except psutil.Error:
            pass  # one of them ended between the two looks
        time.sleep(0.2)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    summary = json.loads((root / "data/prepared/dataset.json").read_text())
    pictures = sum(summary["images"].values())
    return {
        "pictures": pictures,
        "seconds": round(seconds, 2),
        "images_per_s": round(pictures / seconds, 1),
        "cpu_ms_per_image": round(1000 * cpu_s / pictures, 2),
        "peak_memory_mib": round(peak_bytes / MIB, 1),
    }


if __name__ == "__main__":
    main()
