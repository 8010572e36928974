"""A planned set is written: pictures in their place, labels, tables, and the shots of held-out classes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kd_steps.adapters.data import images
from kd_steps.adapters.data.writer import PictureWriter, PreparedWriter, write_data_yaml, yolo_text
from kd_steps.adapters.parallel import map_in_order
from kd_steps.artifacts import PicturesCard
from kd_steps.core.data.boxes import Boxes
from kd_steps.core.data.held_out import erase
from kd_steps.core.data.plan import Plan, PlannedPicture, picture_faults, repeated_ids
from kd_steps.core.data.sample import UNLABELLED
from kd_steps.core.data.source import PictureFacts, ReadTemplate, SourceImage, SourceSet, refuse

# imagehash imports scipy only when it hashes the first picture, which takes a second in every worker.
WORKER_MODULES = (__name__, "scipy.fftpack")
SPLITS = ("train", "val", "test", "defect_free")


def collect(source: SourceSet, incoming: Path) -> list[PictureFacts]:
    """Check and measure every picture and copy its bytes to ``incoming``.

    Raises:
        DataFaultsError: names every fault of the source, every picture that cannot be read and every object outside.
    """
    facts: list[PictureFacts] = []
    faults = [*source.faults, *repeated_ids(source.images)]
    check = partial(collect_picture, incoming=incoming)
    for found, told in map_in_order(check, source.images, "prepare: read", WORKER_MODULES):
        faults += told
        if found is not None:
            facts.append(found)
    refuse(faults)
    return facts


def collect_picture(image: SourceImage, incoming: Path) -> tuple[PictureFacts | None, list[str]]:
    """Copy one picture's bytes to ``incoming`` and measure it; its faults instead, if it has any. Runs in a worker."""
    name = image.picture or image.origin
    try:
        data = image.read()
        facts = images.measure(data, images.decode_bgr(data, name), name)
    except (images.PictureError, OSError) as error:
        return None, [str(error)]
    _incoming(image, incoming).write_bytes(data)
    return facts, picture_faults(image, facts.width_px, facts.height_px)


def _incoming(image: SourceImage, folder: Path) -> Path:
    return folder / f"{image.image_id}{image.suffix}"


def write_shots(source: SourceSet, facts: list[PictureFacts], plan: Plan, staging: Path) -> None:
    """Write the shots of the held-out classes as a YOLO set of their own; without any, an empty one."""
    folder = staging / "held_out"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for shot in plan.shots:
        image = source.images[shot.index]
        shutil.copyfile(_incoming(image, staging / "incoming"), _incoming(image, folder / "images"))
        text = yolo_text(facts[shot.index], shot.class_ids, shot.boxes_xyxy_px)
        (folder / "labels" / f"{image.image_id}.txt").write_text(text, encoding="utf-8")
    names = [*plan.classes, *plan.new_classes]
    write_data_yaml(folder / "data.yaml", {"train": "images", "val": "images"}, names)


@dataclass(frozen=True)
class Placement:
    """One picture's way from ``incoming`` to its place in the set, with the objects to erase on the way, if any."""

    incoming: Path
    target: Path
    facts: PictureFacts
    template: ReadTemplate | None
    boxes_xyxy_px: Boxes
    lost: NDArray[np.bool_] | None


def write_pictures(
    source: SourceSet, facts: list[PictureFacts], plan: Plan, staging: Path
) -> tuple[PicturesCard, PicturesCard]:
    """Write the base set (pictures, labels, tables, ``data.yaml``) and, in a folder of its own, what is unlabelled.

    A teacher learns from labels alone, so unlabelled pictures that come or go must leave its data as they are.

    Returns:
        What is to be told of the base set, and of the unlabelled one.
    """
    root, without_labels = staging / "prepared", staging / "unlabelled"
    (without_labels / "images").mkdir(parents=True)
    names = [*plan.classes, *plan.new_classes]
    jobs = [_placement(source.images[p.index], facts[p.index], p, staging) for p in plan.pictures]
    with (
        PreparedWriter(root, SPLITS, names, len(plan.classes)) as base,
        PictureWriter(without_labels) as unlabelled,
    ):
        unlabelled.counts[UNLABELLED] = 0
        placed = map_in_order(place, jobs, "prepare: write", WORKER_MODULES)
        for picture, job, measured in zip(plan.pictures, jobs, placed, strict=True):
            group = source.images[picture.index].group
            if picture.split == UNLABELLED:
                path = PurePosixPath(job.target.relative_to(without_labels).as_posix())
                unlabelled.add_picture(path, picture.split, group, measured)
            else:
                path = PurePosixPath(job.target.relative_to(root).as_posix())
                base.add(path, picture.split, group, measured, picture.class_ids, picture.boxes_xyxy_px)
    write_data_yaml(root / "data.yaml", {"train": "images/train", "val": "images/val"}, plan.classes)
    return _card(base, plan.warnings), _card(unlabelled, plan.unlabelled_warnings)


def _card(written: PictureWriter, warnings: list[str]) -> PicturesCard:
    return PicturesCard(images=dict(written.counts), digest=written.digest(), warnings=tuple(warnings))


def _placement(image: SourceImage, facts: PictureFacts, picture: PlannedPicture, staging: Path) -> Placement:
    suffix = image.suffix if picture.lost is None else ".png"
    folder = "unlabelled/images" if picture.split == UNLABELLED else f"prepared/images/{picture.split}"
    return Placement(
        incoming=_incoming(image, staging / "incoming"),
        target=staging / folder / f"{image.image_id}{suffix}",
        facts=facts,
        template=None if picture.lost is None else image.template,
        boxes_xyxy_px=image.boxes_xyxy_px,
        lost=picture.lost,
    )


def place(job: Placement) -> PictureFacts:
    """Put one picture in its place: its own bytes, or a PNG of what erasing leaves. Runs in a worker."""
    if job.lost is None or job.template is None:
        job.incoming.replace(job.target)
        return job.facts
    pixels = images.decode_bgr(job.incoming.read_bytes(), str(job.incoming))
    twin = job.template()
    template = images.decode_bgr(twin, f"template of {job.incoming.name}") if isinstance(twin, bytes) else twin
    try:
        erased = erase(pixels, template, job.boxes_xyxy_px, job.lost)
    except ValueError as error:
        raise ValueError(f"{job.incoming.name}: {error}") from error
    data = images.encode_png(erased, job.facts.channels)
    job.target.write_bytes(data)
    return images.measure(data, erased, job.target.name)
