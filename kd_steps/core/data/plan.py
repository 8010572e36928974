"""What `prepare` will write, decided purely: the split, the labels and the erasures of every picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kd_steps.core.data.boxes import ROUNDING_PX, Boxes, box_fault, clip, unpaired
from kd_steps.core.data.held_out import choose_shots, lost_objects
from kd_steps.core.data.sample import UNLABELLED
from kd_steps.core.data.source import PictureFacts, SourceImage, SourceSet, SourceSplit
from kd_steps.core.data.splits import Candidate, SplitRules
from kd_steps.core.data.unlabelled import cut_beside_unlabelled


@dataclass(frozen=True)
class PlannedPicture:
    """One picture of the prepared set.

    Attributes:
        index: its place in the source.
        split: where it goes.
        class_ids: index into base classes, then new classes; int64 (n,).
        boxes_xyxy_px: the objects that stay, (n, 4).
        lost: which of the *source's* objects are erased with the template; None: the file is taken as it is.
    """

    index: int
    split: SourceSplit
    class_ids: NDArray[np.int64]
    boxes_xyxy_px: Boxes
    lost: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Plan:
    """All pictures of the prepared set, the shots of the held-out classes, and what the user should know."""

    pictures: list[PlannedPicture]
    shots: list[PlannedPicture]
    classes: list[str]
    new_classes: list[str]
    warnings: list[str]
    faults: list[str]
    unlabelled_warnings: list[str] = field(default_factory=list)


def picture_faults(image: SourceImage, width_px: int, height_px: int) -> list[str]:
    """Another size than its annotation tells; objects without area or outside; each with the file and the number."""
    if image.told_wh_px and image.told_wh_px != (width_px, height_px):
        told_px, found_px = (f"{width} × {height} px" for width, height in (image.told_wh_px, (width_px, height_px)))
        return [
            f"{image.origin}: it was made on a picture of {told_px}, but this one is displayed at {found_px} "
            "(it may have been resized, or be turned by its EXIF data); export the annotations again"
        ]
    told = ((i, box_fault(box, width_px, height_px)) for i, box in enumerate(image.boxes_xyxy_px, start=1))
    names = image.class_names
    return [f"{image.origin}, object {i} ('{names[i - 1]}'): {fault}" for i, fault in told if fault]


def repeated_ids(images: Sequence[SourceImage]) -> list[str]:
    """A fault for each picture whose id another one has already: its file would overwrite the other's."""
    first: dict[str, SourceImage] = {}
    return [
        f"{image.origin} and {other.origin} have the same id '{image.image_id}'; delete one of them, or rename it"
        for image in images
        if (other := first.setdefault(image.image_id, image)) is not image
    ]


def contradictions(images: Sequence[SourceImage], facts: Sequence[PictureFacts]) -> list[str]:
    """A fault for each picture that shows the same pixels as another and has other objects."""
    first: dict[str, SourceImage] = {}
    return [
        f"{image.origin} and {other.origin} are the same picture with different objects; mend or delete one of them"
        for image, fact in zip(images, facts, strict=True)
        if image.split != UNLABELLED and _differ(image, other := first.setdefault(fact.pixel_hash, image))
    ]


def _differ(image: SourceImage, other: SourceImage) -> bool:
    """Whether a copy of a picture has other objects; half a pixel of rounding is forgiven."""
    if image is other or sorted(image.class_names) != sorted(other.class_names):
        return image is not other
    number = {name: i for i, name in enumerate(set(image.class_names))}
    mine, theirs = (
        np.column_stack([[number[name] for name in i.class_names], i.boxes_xyxy_px]) for i in (image, other)
    )
    return unpaired(mine, theirs, ROUNDING_PX) is not None


def plan_set(
    source: SourceSet,
    facts: Sequence[PictureFacts],
    rules: SplitRules,
    held_out: Sequence[str],
    shots: int,
) -> Plan:
    """Decide the whole prepared set.

    In train and validation the objects of held-out classes are erased and their boxes dropped; a picture without an
    aligned template is left out there, for an unlabelled object would teach that it is background. Test keeps all.
    Shots are copies of train pictures with all their labels: what was erased from base comes back only as a shot.

    Raises:
        ValueError: a held-out class has too few pictures in the train split.
    """
    rare = _rare(source, held_out, shots)
    pairs = zip(source.images, facts, strict=True)
    candidates = [_candidate(image, fact, bool(rare & {*image.class_names})) for image, fact in pairs]
    cut = cut_beside_unlabelled(candidates, rules)
    base = [name for name in source.classes if name not in held_out]
    faults = list(cut.faults) or contradictions(source.images, facts)
    warnings = [*source.warnings, *cut.warnings]
    plan = Plan([], [], base, list(held_out), warnings, faults, cut.unlabelled_warnings)
    if plan.faults:
        return plan
    ids = {name: i for i, name in enumerate([*base, *held_out])}
    n_hidden, n_left_out = 0, 0
    for index, (image, split) in enumerate(zip(source.images, cut.splits, strict=True)):
        if split is None:
            continue
        class_ids = np.array([ids[name] for name in image.class_names], dtype=np.int64)
        is_new = class_ids >= len(base)
        boxes = clip(image.boxes_xyxy_px, facts[index].width_px, facts[index].height_px)
        if split not in ("train", "val") or not is_new.any():
            plan.pictures.append(PlannedPicture(index, split, class_ids, boxes))
        elif image.template is None:
            n_left_out += 1
        else:
            lost = lost_objects(boxes, is_new)
            n_hidden += int((lost & ~is_new).sum())
            plan.pictures.append(PlannedPicture(index, split, class_ids[~lost], boxes[~lost], lost))
    if n_left_out:
        plan.warnings.append(
            f"{n_left_out} train and validation pictures show a held-out class and have no defect-free template to "
            "erase it with: they were left out of the base set"
        )
    if n_hidden:
        plan.warnings.append(f"{n_hidden} base objects lay under a held-out one and were erased with it")
    names, trainable = [image.class_names for image in source.images], [split == "train" for split in cut.splits]
    shown = {name for own, ok in zip(names, trainable, strict=True) if ok for name in own}
    if unshown := [name for name in held_out if name not in shown]:
        plan.warnings.append(
            f"no training picture shows {', '.join(unshown)}: only a set below data/new_parts/line can teach it"
        )
    for index in choose_shots(names, trainable, held_out, shots, rules.seed):
        image = source.images[index]
        class_ids = np.array([ids[name] for name in image.class_names], dtype=np.int64)
        boxes = clip(image.boxes_xyxy_px, facts[index].width_px, facts[index].height_px)
        plan.shots.append(PlannedPicture(index, "train", class_ids, boxes))
    plan.faults.extend(_emptied(plan))
    plan.warnings.extend(_absent_classes(plan))
    return plan


def _rare(source: SourceSet, held_out: Sequence[str], shots: int) -> set[str]:
    """Held-out classes with so few pictures that a validation cut could take some of the wanted shots."""
    trainable = [image for image in source.images if image.split in (None, "train")]
    return {name for name in held_out if sum(name in image.class_names for image in trainable) < 3 * shots}


def _candidate(image: SourceImage, facts: PictureFacts, keep_in_train: bool) -> Candidate:
    return Candidate(
        name=image.origin,
        group=image.group,
        declared=image.split,
        pixel_hash=facts.pixel_hash,
        phash=facts.phash,
        n_objects=len(image.class_names),
        keep_in_train=keep_in_train,
        unsure=image.unsure,
    )


def _emptied(plan: Plan) -> list[str]:
    present = {picture.split for picture in plan.pictures}
    return [
        f"the {split} split is empty once pictures of held-out classes are left out; hold out fewer classes "
        "(prepare.new_parts.classes)"
        for split in ("train", "val")
        if split not in present
    ]


def _absent_classes(plan: Plan) -> list[str]:
    names = [*plan.classes, *plan.new_classes]
    warnings = []
    for split, wanted in (("train", plan.classes), ("val", plan.classes), ("test", names)):
        seen = {names[i] for picture in plan.pictures if picture.split == split for i in picture.class_ids.tolist()}
        absent = [name for name in wanted if name not in seen]
        if absent:
            warnings.append(f"the {split} split has no object of: {', '.join(absent)}")
    return warnings
