"""A YOLO folder as a person has it, small enough to break in one place."""

from pathlib import Path

import cv2
import numpy as np

LINE = "0 0.5 0.5 0.25 0.25\n"


def jpeg(seed: int, side_px: int = 64) -> bytes:
    """A picture that no other seed's resembles."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    done, data = cv2.imencode(".jpg", cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_NEAREST))
    assert done
    return data.tobytes()


def make_yolo(folder: Path, train: int = 12, val: int = 3, test: int = 4, side_px: int = 64) -> Path:
    """Pictures with one object each, in declared splits."""
    seed = 0
    for split, count in (("train", train), ("val", val), ("test", test)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            (folder / "images" / split / f"{split}{number}.jpg").write_bytes(jpeg(seed, side_px))
            (folder / "labels" / split / f"{split}{number}.txt").write_text(LINE if number % 2 else "1" + LINE[1:])
            seed += 1
    (folder / "data.yaml").write_text(
        "train: images/train\nval: images/val\ntest: images/test\nnames: {0: scratch, 1: dent}\n"
    )
    return folder
