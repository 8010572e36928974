"""A tiny valid prepared set, written by plain code: what `prepare` leaves, without `prepare`."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import yaml

from kd_steps.adapters.data.images import decode_bgr, measure
from kd_steps.adapters.data.writer import signed_hash
from kd_steps.adapters.files import write_document
from kd_steps.artifacts import DatasetCard, NumberedClass, PicturesCard

PROJECT = Path(__file__).resolve().parents[2]
CLASSES = ["bridge", "missing"]
NEW_CLASSES = ["tombstone"]
COUNTS = {"train": 8, "val": 4, "test": 6, "defect_free": 3}
TOKENS = ("expectations", "infra/great_expectations.yml", "params.yaml")


def write_project(root: Path, counts: dict[str, int] = COUNTS, size_px: tuple[int, int] = (96, 96)) -> Path:
    """A project folder with suites, parameters, a prepared set and held-out new parts; returns ``root``.

    Args:
        root: an empty folder.
        counts: pictures a split.
        size_px: width and height of the pictures.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name in TOKENS:
        source, target = PROJECT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    write_prepared(root / "data/prepared", counts, size_px)
    list_classes(root, CLASSES + NEW_CLASSES)
    write_part_set(root / "data/new_parts/held_out", CLASSES + NEW_CLASSES, shots=6, first_seed=90_000)
    return root


def write_prepared(folder: Path, counts: dict[str, int], size_px: tuple[int, int], suffix: str = ".jpg") -> None:
    """The prepared set: pictures, labels, both tables, data.yaml and dataset.json; beside it, what is unlabelled."""
    images, boxes = [], []
    seed = 0
    labelled = {split: n for split, n in counts.items() if split != "unlabelled"}
    for split, n in labelled.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(n):
            seed += 1
            image_id = f"{split}-{i:05d}"
            data = board(seed, size_px, suffix)
            (folder / "images" / split / f"{image_id}{suffix}").write_bytes(data)
            rows = [] if split == "defect_free" else objects(split, i, size_px)
            (folder / "labels" / split / f"{image_id}.txt").write_text("".join(line(row, size_px) for row in rows))
            boxes += [{"image_id": image_id, "split": split, **row} for row in rows]
            path = f"images/{split}/{image_id}{suffix}"
            images.append(image_row(image_id, split, path, data, len(rows)))
    pd.DataFrame(images).to_parquet(folder / "images.parquet")
    pd.DataFrame(boxes).to_parquet(folder / "boxes.parquet")
    names = dict(enumerate(CLASSES))
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": names}))
    write_card(folder, CLASSES, NEW_CLASSES, labelled)
    write_unlabelled(folder.with_name("unlabelled"), counts.get("unlabelled", 0), size_px, suffix, seed)


def write_unlabelled(folder: Path, n: int, size_px: tuple[int, int], suffix: str = ".jpg", seed: int = 0) -> None:
    """The set of pictures without labels, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    rows = []
    for i in range(n):
        image_id, data = f"unlabelled-{i:05d}", board(seed + 1 + i, size_px, suffix)
        path = f"images/{image_id}{suffix}"
        (folder / path).write_bytes(data)
        rows.append(image_row(image_id, "unlabelled", path, data, None))
    columns = list(image_row("x", "unlabelled", "x", board(0, size_px), None))
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "images.parquet")
    digest = hashlib.sha256("".join(row["sha256"] for row in rows).encode()).hexdigest()
    write_document(folder / "dataset.json", PicturesCard(images={"unlabelled": n}, digest=digest, warnings=()))


def write_card(
    folder: Path, classes: list[str], new_classes: list[str], images: dict[str, int], source: str = "test"
) -> None:
    """The ``dataset.json`` of a prepared set whose classes have the numbers 0, 1, 2, …"""
    known = [NumberedClass(name=name, number=number) for number, name in enumerate([*classes, *new_classes])]
    base, new = tuple(known[: len(classes)]), tuple(known[len(classes) :])
    told = {"images": images, "digest": "d" * 64, "warnings": ()}
    write_document(folder / "dataset.json", DatasetCard(source=source, classes=base, new_classes=new, **told))


def list_classes(root: Path, names: list[str], product: str = "retort") -> None:
    """The ledger of a project's product, written by plain code."""
    lines = [f"{number},added,{name},2026-11-29,test" for number, name in enumerate(names)]
    path = root / f"data/classes/{product}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["number,event,name,on,drop", *lines, ""]))


def write_part_set(folder: Path, names: list[str], shots: int, first_seed: int) -> None:
    """A new-part set in the YOLO layout: each picture shows one object of the last class."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": "images", "val": "images", "names": names}))
    for i in range(shots):
        (folder / "images" / f"shot-{i}.jpg").write_bytes(board(first_seed + i, (96, 96)))
        (folder / "labels" / f"shot-{i}.txt").write_text(f"{len(names) - 1} 0.5 0.5 0.25 0.25\n")


def board(seed: int, size_px: tuple[int, int], suffix: str = ".jpg") -> bytes:
    """An encoded picture that resembles no other: large random blocks of one mean brightness."""
    width_px, height_px = size_px
    blocks = np.random.default_rng(seed).integers(60, 200, (8, 8, 3)).astype(np.uint8)
    pixels = cv2.resize(blocks, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return bytes(data.tobytes())


def objects(split: str, i: int, size_px: tuple[int, int]) -> list[dict[str, Any]]:
    """Two base objects a picture, in the test split a new one too."""
    width_px, height_px = size_px
    shares = [(0, 0.125, 0.125, 0.375, 0.375), (1, 0.5, 0.5, 0.75, 0.625)]
    if split == "test":
        shares.append((2, 0.625, 0.125, 0.875, 0.25))
    names = CLASSES + NEW_CLASSES
    return [
        {
            "class_id": k,
            "class_name": names[k],
            "x1_px": x1 * width_px,
            "y1_px": y1 * height_px,
            "x2_px": x2 * width_px,
            "y2_px": y2 * height_px,
            "is_new": k >= len(CLASSES),
        }
        for k, x1, y1, x2, y2 in shares
    ]


def line(row: dict[str, Any], size_px: tuple[int, int]) -> str:
    """A label line of one object."""
    width_px, height_px = size_px
    cx, cy = (row["x1_px"] + row["x2_px"]) / 2 / width_px, (row["y1_px"] + row["y2_px"]) / 2 / height_px
    w, h = (row["x2_px"] - row["x1_px"]) / width_px, (row["y2_px"] - row["y1_px"]) / height_px
    return f"{row['class_id']} {cx:.9f} {cy:.9f} {w:.9f} {h:.9f}\n"


def image_row(image_id: str, split: str, path: str, data: bytes, n_boxes: int | None) -> dict[str, Any]:
    """The row of the images table that is true of this file."""
    facts = measure(data, decode_bgr(data, image_id), image_id)
    return {
        "image_id": image_id,
        "split": split,
        "path": path,
        "width_px": facts.width_px,
        "height_px": facts.height_px,
        "channels": facts.channels,
        "group": f"board-{image_id}",
        "sha256": facts.sha256,
        "pixel_hash": facts.pixel_hash,
        "phash": signed_hash(facts.phash),
        "brightness": facts.brightness,
        "contrast": facts.contrast,
        "n_boxes": n_boxes,
    }
