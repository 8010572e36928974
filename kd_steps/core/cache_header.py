"""The header of a teacher cache: all that its content depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class CacheHeader:
    """All that a cache's content depends on.

    Attributes:
        teacher_sha256: of the teacher's weight file.
        contract_digest: of the preprocessing contract.
        augmentation_digest: of the augmentation gains.
        dataset_digest: of the training pictures and their labels; mosaic partners come from all of them.
        seed: of the views.
        views: mosaic views a picture.
        closing_views: views a picture without mosaic.
        classes: class names, in the order of the logits.
        bins: bins a box side; 1 for heads without bins.
        box_bins: how bins are stored.
        score_threshold: least teacher score of a kept anchor.
        max_anchors: most anchors kept a view.
        precision: of the teacher's forward pass.
        library_versions: of the libraries that make the pixels and the answers.
    """

    teacher_sha256: str
    contract_digest: str
    augmentation_digest: str
    dataset_digest: str
    seed: int
    views: int
    closing_views: int
    classes: tuple[str, ...]
    bins: int
    box_bins: Literal["float16", "int8"]
    score_threshold: float
    max_anchors: int
    precision: str
    library_versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The header as JSON values."""
        return {**asdict(self), "classes": list(self.classes), "library_versions": dict(self.library_versions)}

    def differences(self, found: Mapping[str, Any]) -> list[str]:
        """One line for each field in which a stored header differs."""
        mine = self.to_dict()
        return [
            f"{k}: {mine.get(k)!r} against {found.get(k)!r}" for k in mine | dict(found) if mine.get(k) != found.get(k)
        ]
