"""Holding classes out as new parts: which pictures become the shots, and how base pictures forget the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kd_steps.core.data.boxes import Boxes, covered_share

# An object's edge glows a little past its box (blur, JPEG ringing): this much around it goes too.
ERASE_MARGIN_PX = 4
# A base object that an erased box hides to this share is no longer recognisable: it goes with it.
LOST_SHARE = 0.5


def check_known(held_out: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse held-out classes that the source does not have, a class named twice, and holding out all of them.

    Raises:
        ValueError: names the key and the known classes.
    """
    key = "params.yaml: prepare.new_parts.classes"
    unknown = [name for name in held_out if name not in classes]
    if unknown:
        raise ValueError(f"{key} names {unknown}, which the source does not have; it has: {', '.join(classes)}")
    if len(set(held_out)) != len(held_out):
        raise ValueError(f"{key} names a class twice: {list(held_out)}")
    if set(held_out) == set(classes):
        raise ValueError(f"{key} holds out all classes of the source; leave at least one as a base class")


def choose_shots(
    class_names: Sequence[Sequence[str]], trainable: Sequence[bool], held_out: Sequence[str], shots: int, seed: int
) -> list[int]:
    """Choose the pictures of the held-out classes for few-shot training.

    Args:
        class_names: the classes of the objects of each picture.
        trainable: whether each picture is in the train split (a shot never comes from validation or test).
        held_out: the held-out classes.
        shots: pictures wanted of each held-out class; a picture with two of them counts for both.
        seed: decides among the pictures.

    Returns:
        Indices of the chosen pictures, ascending; none of a class that the train split does not show: its shots come
        from a set of the line's own.

    Raises:
        ValueError: a class has some pictures, but fewer than ``shots``; names the counts and the key.
    """
    chosen: set[int] = set()
    for number, name in enumerate(held_out):
        having = [i for i, names in enumerate(class_names) if trainable[i] and name in names]
        if 0 < len(having) < shots:
            raise ValueError(
                f"params.yaml: prepare.new_parts.shots asks for {shots} pictures of '{name}', the train split has "
                f"{len(having)}; lower shots, or add pictures"
            )
        missing = shots - sum(i in chosen for i in having)
        free = [i for i in having if i not in chosen]
        picked = np.random.default_rng([seed, number]).permutation(len(free))[: max(0, missing)]
        chosen.update(free[i] for i in picked.tolist())
    return sorted(chosen)


def lost_objects(boxes_xyxy_px: Boxes, is_held_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which objects (n,) go when the held-out ones are erased: those, and base objects that they mostly cover."""
    covered = covered_share(boxes_xyxy_px, boxes_xyxy_px[is_held_out])
    return is_held_out | (covered > LOST_SHARE)


def erase(
    picture: NDArray[np.uint8], template: NDArray[np.uint8], boxes_xyxy_px: Boxes, lost: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """A copy of ``picture`` in which the lost objects show the aligned defect-free template.

    The margin around an erased box does not eat into a base object that stays.

    Args:
        picture, template: uint8 of shape (height, width, 3).
        boxes_xyxy_px: all objects, (n, 4).
        lost: the objects to erase, (n,).

    Raises:
        ValueError: the two pictures have different sizes.
    """
    if picture.shape != template.shape:
        raise ValueError(
            f"the template has {template.shape[1]} × {template.shape[0]} px, the picture {picture.shape[1]} × "
            f"{picture.shape[0]} px; they must be aligned"
        )
    mask = np.zeros(picture.shape[:2], dtype=bool)
    for box in boxes_xyxy_px[lost]:
        mask[_pixels(box, ERASE_MARGIN_PX)] = True
    for box in boxes_xyxy_px[~lost]:
        mask[_pixels(box, 0)] = False
    for box in boxes_xyxy_px[lost]:
        mask[_pixels(box, 0)] = True
    return np.where(mask[:, :, None], template, picture)


def _pixels(box_xyxy_px: NDArray[np.float64], margin_px: int) -> tuple[slice, slice]:
    """The rows and columns that a box touches, with a margin; a slice ends at the picture's edge by itself."""
    x1, y1 = np.floor(box_xyxy_px[:2]).astype(int) - margin_px
    x2, y2 = np.ceil(box_xyxy_px[2:]).astype(int) + margin_px
    return slice(max(0, int(y1)), max(0, int(y2))), slice(max(0, int(x1)), max(0, int(x2)))
