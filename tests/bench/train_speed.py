"""How fast an epoch trains: Ultralytics' own trainer against ours, same model, pictures, size and batch, in turn.

``python tests/bench/train_speed.py [pictures]`` prints pictures a second and the ratio, and writes
``tests/bench/results/train_speed.json``. Both load through Ultralytics' augmentation; validation is left out. Each
training has a process of its own, since ours tells the C library of its process what to do with freed memory.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "tests/bench/results/train_speed.json"
IMGSZ_PX, BATCH, ROUNDS = 320, 16, 3
ARMS = ("ultralytics-default", "ours-fp32", "ours-auto", "ours-auto-trimmed")


def write_pictures(folder: Path, count: int) -> Path:
    """Drawn boards in the YOLO layout."""
    from kd_steps.adapters.sources.synthetic import load_synthetic
    from kd_steps.core.data.boxes import xyxy_to_yolo

    source = load_synthetic(
        train_boards=count,
        test_boards=1,
        defect_free_boards=1,
        new_part_boards=0,
        new_classes=(),
        image_size_px=IMGSZ_PX,
        seed=0,
    )
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for image in [i for i in source.images if i.split == "train"][:count]:
        (folder / "images" / f"{image.image_id}{image.suffix}").write_bytes(image.read())
        boxes = xyxy_to_yolo(image.boxes_xyxy_px, IMGSZ_PX, IMGSZ_PX)
        lines = [
            f"{source.classes.index(name)} {' '.join(f'{v:.6f}' for v in box)}"
            for name, box in zip(image.class_names, boxes, strict=True)
        ]
        (folder / "labels" / f"{image.image_id}.txt").write_text("\n".join(lines))
    names = dict(enumerate(source.classes))
    (folder / "data.yaml").write_text(
        json.dumps({"path": str(folder), "train": "images", "val": "images", "names": names})
    )
    return folder / "data.yaml"


class EpochClock:
    """Callbacks that time each epoch of an Ultralytics trainer, from its first batch to its last."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def start(self, _: Any) -> None:
        self._started = time.perf_counter()

    def stop(self, _: Any) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def in_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What ``work`` returns, from a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def timed(trainer: Any) -> float:
    """Seconds of the second epoch; the first warms caches and kernels up."""
    clock = EpochClock()
    trainer.add_callback("on_train_epoch_start", clock.start)
    trainer.add_callback("on_train_epoch_end", clock.stop)
    trainer.validate = lambda: ({}, 0.0)
    trainer.final_eval = lambda: None
    trainer.train()
    return clock.seconds[-1]


def ultralytics_default(data: Path, folder: Path) -> Any:
    """Ultralytics as a user would run it on this machine, with pictures in memory."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    from kd_steps.adapters.yolo.models import switch_off_integrations

    switch_off_integrations()
    options = {
        "model": "yolo11n.yaml",
        "data": str(data),
        "imgsz": IMGSZ_PX,
        "batch": BATCH,
        "epochs": 2,
        "cache": "ram",
    }
    return DetectionTrainer(
        overrides={**options, "device": "cpu", "plots": False, "close_mosaic": 0, "save_dir": str(folder)}
    )


def ours(data: Path, folder: Path, precision: str) -> Any:
    """Our trainer on the same pictures."""
    import numpy as np
    import torch

    from kd_steps.adapters.yolo.models import build_model
    from kd_steps.adapters.yolo.precision import choose_precision
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer
    from kd_steps.adapters.yolo.train.training_run import TrainingRun
    from kd_steps.core.data.sample import LabelledImage
    from kd_steps.core.detect.views import ViewPlan
    from kd_steps.params import load_params

    names = list(json.loads(data.read_text())["names"].values())
    images = []
    for path in sorted((data.parent / "images").iterdir()):
        text = (data.parent / "labels" / f"{path.stem}.txt").read_text().split()
        rows = np.array(text, dtype=np.float64).reshape(-1, 5)
        images.append(
            LabelledImage(
                path, path.stem, (IMGSZ_PX, IMGSZ_PX), rows[:, 0].astype(np.int64), rows[:, 1:].astype(np.float32)
            )
        )
    return RetortTrainer(
        TrainingRun(
            model=build_model("yolo11n.yaml", names, 0),
            classes=names,
            train=images,
            val=images[:BATCH],
            plan=ViewPlan(2, 0, 2, 0),
            seed=0,
            gains=load_params(ROOT / "params.yaml").augmentation.model_dump(),
            augmentation_digest="benchmark",
            imgsz_px=IMGSZ_PX,
            options={"epochs": 2, "batch": BATCH},
            val_interval_epochs=2,
            device="cpu",
            precision=choose_precision(precision, torch.device("cpu")),  # type: ignore[arg-type]
            loader_workers=0,
            cache_images=True,
            folder=folder,
        )
    )


def measured(arm: str, data: Path, folder: Path) -> tuple[float, int]:
    """Seconds of an epoch of one arm, and the peak memory of this process in bytes."""
    from kd_steps.adapters.yolo.runtime import GLIBC_TRIM_BYTES, keep_freed_memory

    if arm == "ultralytics-default":
        trainer = ultralytics_default(data, folder)
    else:
        trainer = ours(data, folder, "fp32" if arm == "ours-fp32" else "auto")
    if arm == "ours-auto-trimmed":
        keep_freed_memory(GLIBC_TRIM_BYTES)  # as the C library would have it by itself
    return timed(trainer), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Time the arms in turn and write what was found."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 160
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    peaks: dict[str, list[int]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as scratch:
        data = write_pictures(Path(scratch) / "set", count)
        for number in range(ROUNDS):
            for arm in ARMS:
                found = in_own_process(measured, arm, data, Path(scratch) / f"{arm}-{number}")
                seconds[arm].append(found[0])
                peaks[arm].append(found[1])
    base, trimmed = seconds["ultralytics-default"], seconds["ours-auto-trimmed"]
    result = {
        "imgsz": IMGSZ_PX,
        "batch": BATCH,
        "pictures": count,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": {name: [round(s, 2) for s in times] for name, times in seconds.items()},
        "peak_memory_bytes": peaks,
        "pictures_per_second": {name: round(count / statistics.median(times), 1) for name, times in seconds.items()},
        "default_epoch_over_ours": {
            name: [round(b / t, 2) for b, t in zip(base, times, strict=True)] for name, times in seconds.items()
        },
        "kept_memory_over_trimmed": [round(t / b, 3) for t, b in zip(seconds["ours-auto"], trimmed, strict=True)],
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from kd_steps.stage_entry import set_environment

    set_environment(ROOT)
    main()
