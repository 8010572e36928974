"""The header of a teacher cache: what its content is asked to depend on.

The number format of the teacher's forward pass is not asked for: a cache may have been answered by several machines,
and each shard tells its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

VIEW_COUNTS = ("views", "closing_views")  # how many there are; no single answer depends on them
OF_THE_HEAD = {"bins", "two_branches", "cells", "neck_channels"}  # what the teacher's network tells, its weights given
BEFORE_RECIPES = {"layout": 6}  # how the last headers before recipe numbers told what their first numbers tell now


@dataclass(frozen=True)
class CacheHeader:
    """What a cache's content depends on.

    Attributes:
        teacher_sha256: of the teacher's weight file; of several teachers, over the files, weights and classes
            of all.
        contract_digest: of the preprocessing contract.
        augmentation_digest: of the augmentation gains.
        dataset_digest: of the training pictures and their labels; mosaic partners come from all of them.
        imgsz_px: side of a view.
        seed: of the views.
        views: mosaic views a picture.
        closing_views: views a picture without mosaic.
        classes: class names, in the order of the logits.
        bins: bins a box side; 1 for heads without bins.
        two_branches: whether the head has a one-to-one branch beside the one-to-many.
        cells: anchors a level.
        neck_channels: of the teacher's neck, by level.
        score_threshold: least teacher score of a kept anchor.
        max_anchors: most anchors kept a view.
        attention: whether attention maps are kept.
        pooled: whether pooled neck channels are kept.
        max_vectors: most neck vectors kept a view.
        pixels: whether the views themselves are kept.
        library_versions: releases of the libraries that make the pixels and the answers.
        recipe: numbers of our own code that makes them.
    """

    teacher_sha256: str
    contract_digest: str
    augmentation_digest: str
    dataset_digest: str
    imgsz_px: int
    seed: int
    views: int
    closing_views: int
    classes: tuple[str, ...]
    bins: int
    two_branches: bool
    cells: tuple[int, ...]
    neck_channels: tuple[int, ...]
    score_threshold: float
    max_anchors: int
    attention: bool
    pooled: bool
    max_vectors: int
    pixels: bool
    library_versions: Mapping[str, str]
    recipe: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The header as JSON values."""
        lists = {name: list(getattr(self, name)) for name in ("classes", "cells", "neck_channels")}
        mappings = {"library_versions": dict(self.library_versions), "recipe": dict(self.recipe)}
        return {**asdict(self), **lists, **mappings}

    @property
    def answers_digest(self) -> str:
        """sha256 (hex) of what a single answer depends on."""
        return answers_digest(self.to_dict())

    @property
    def pixel_bytes(self) -> int:
        """Size of a view's pixels."""
        return 3 * self.imgsz_px**2

    def differences(self, found: Mapping[str, Any], but: Sequence[str] = ()) -> list[str]:
        """One line for each field in which a stored header differs, but for some fields."""
        mine = self.to_dict()
        return [
            f"{k}: {mine.get(k)!r} against {found.get(k)!r}"
            for k in mine | dict(found)
            if mine.get(k) != found.get(k) and k not in but
        ]


def answers_digest(header: Mapping[str, Any]) -> str:
    """sha256 (hex) of those fields of a header that a single answer depends on."""
    fields = {name: value for name, value in header.items() if name not in VIEW_COUNTS}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def as_today(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored header as today's are named, also of one from before there were recipe numbers."""
    fields = dict(stored)
    if fields.items() >= BEFORE_RECIPES.items() and "recipe" not in fields:
        fields = {name: value for name, value in fields.items() if name not in BEFORE_RECIPES}
        fields["recipe"] = {"views": 1, "answers": 1}
        fields["library_versions"] = {name: v.partition("+")[0] for name, v in fields["library_versions"].items()}
    return fields
