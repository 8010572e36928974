"""How fast `validate` reads, and whether its memory grows with the pictures.

    python tests/bench/validate_speed.py [pictures]

Writes tests/bench/results/validate_speed.json. Each size runs the reading part of the stage (every picture decoded and
measured, every label file held against the boxes table) in a process of its own, on all cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
RESULTS = HERE / "results/validate_speed.json"
SIDE_PX = 640
FACTORS = (1, 4, 16)
DISTINCT = 32  # pictures drawn; the rest are copies, which cost as much to read


def write_set(root: Path, n: int) -> None:
    """A prepared set of ``n`` pictures in the train split, three objects each."""
    from prepared import image_row, line, list_classes, objects, write_card, write_unlabelled

    folder = root / "data/prepared"
    for kind in ("images", "labels"):
        (folder / kind / "train").mkdir(parents=True)
    rng = np.random.default_rng(0)
    size_px = (SIDE_PX, SIDE_PX)
    drawn = []
    for _ in range(DISTINCT):
        blocks = cv2.resize(rng.integers(40, 215, (40, 40, 3)).astype(np.uint8), size_px)
        noisy = np.clip(blocks + rng.normal(0, 4, blocks.shape), 0, 255).astype(np.uint8)
        drawn.append(cv2.imencode(".jpg", noisy)[1].tobytes())
    rows = [image_row("x", "train", "x.jpg", data, 3) for data in drawn]
    images, boxes = [], []
    for i in range(n):
        image_id = f"train-{i:06d}"
        (folder / f"images/train/{image_id}.jpg").write_bytes(drawn[i % DISTINCT])
        listed = objects("test", i, size_px)
        (folder / f"labels/train/{image_id}.txt").write_text("".join(line(row, size_px) for row in listed))
        path = f"images/train/{image_id}.jpg"
        images.append({**rows[i % DISTINCT], "image_id": image_id, "path": path})
        boxes += [{"image_id": image_id, "split": "train", **row} for row in listed]
    pd.DataFrame(images).to_parquet(folder / "images.parquet")
    pd.DataFrame(boxes).to_parquet(folder / "boxes.parquet")
    write_card(folder, ["bridge", "missing"], ["tombstone"], {"train": n})
    list_classes(root, ["bridge", "missing", "tombstone"])
    write_unlabelled(root / "data/unlabelled", 0, size_px)


def read_once(root: Path) -> None:
    """Run in a process of its own: read the set of ``root`` and print seconds, processor time and peak memory."""
    os.chdir(root)
    from kd_steps.adapters.data.reader import load_prepared, load_unlabelled
    from kd_steps.jobs.validation_tables import listed_pictures, measure_file, read_pictures

    prepared = load_prepared()
    pictures = [prepared.root / path for path in prepared.images["path"][:DISTINCT]]
    measure_file(pictures[0])  # the first one imports what hashing needs
    before = time.process_time()
    for path in pictures:
        measure_file(path)
    cpu_ms = 1000 * (time.process_time() - before) / len(pictures)
    done = threading.Event()
    peak = [0.0]
    sampler = threading.Thread(target=sample_peak_mib, args=(peak, done))
    sampler.start()
    start = time.perf_counter()
    table = read_pictures(prepared, listed_pictures(prepared, load_unlabelled()))
    seconds = time.perf_counter() - start
    done.set()
    sampler.join()
    assert table["picture_fault"].isna().all()
    assert table["label_fault"].isna().all()
    print(json.dumps({"seconds": seconds, "cpu_ms_per_image": cpu_ms, "peak_rss_mib": peak[0]}))


def sample_peak_mib(peak: list[float], done: threading.Event) -> None:
    """Keep the largest memory of this process and its workers together, MiB (shared pages count in each)."""
    me = psutil.Process()
    while not done.wait(0.1):
        total = 0
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        peak[0] = max(peak[0], total / 2**20)


def main() -> None:
    """Measure every size, print a table and write the results."""
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 250
    measured = []
    for factor in FACTORS:
        n = first * factor
        with tempfile.TemporaryDirectory() as folder:
            write_set(Path(folder), n)
            ended = subprocess.run(
                [sys.executable, str(Path(__file__)), "--read", folder], check=True, stdout=subprocess.PIPE, text=True
            )
        row = {"pictures": n, "side_px": SIDE_PX, **json.loads(ended.stdout)}
        row["images_per_s"] = n / row["seconds"]
        measured.append(row)
        told = f"{row['images_per_s']:.0f} images/s, {row['cpu_ms_per_image']:.1f} ms of one core each"
        print(f"{n:6d} pictures: {told}, {row['peak_rss_mib']:.0f} MiB in all processes")
    # other programs on the machine take cores away: the load says how much of the rate is theirs
    machine = {"cores": len(os.sched_getaffinity(0)), "load_average_1_min": os.getloadavg()[0]}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**machine, "limit_images_per_s": 150, "measured": measured}, indent=2) + "\n")


if __name__ == "__main__":
    sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]
    if "--read" in sys.argv:
        read_once(Path(sys.argv[2]))
    else:
        main()
