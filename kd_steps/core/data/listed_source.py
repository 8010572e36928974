"""A source seen through the ledger: classes under their present names, in the order of their numbers."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kd_steps.core.data.ledger import Ledger, LedgerError, by_number, names_in_service
from kd_steps.core.data.source import SourceImage, SourceSet


def listed_source(source: SourceSet, ledger: Ledger, ledger_file: str) -> SourceSet:
    """The source with the classes that are in service.

    Objects of withdrawn classes lose their labels: nothing is taught about them, and nothing is asked. Their pictures
    stay, but are not taken for defect-free ones.

    Args:
        source: as it is read.
        ledger: of the product.
        ledger_file: where it lies, for messages.

    Raises:
        LedgerError: the source names a class that is not listed, or none that is in service.
    """
    found = names_in_service(source.classes, ledger)
    if found.unlisted:
        raise LedgerError(unlisted_message("the source", found.unlisted, ledger_file))
    withdrawn = {source.classes[place] for place in found.withdrawn}
    present = {old: new for old, new in zip(source.classes, found.names, strict=True) if old not in withdrawn}
    if not present:
        raise LedgerError(f"{ledger_file}: every class of the source is withdrawn; list what is to be found")
    lost = Counter(name for image in source.images for name in image.class_names if name in withdrawn)
    warnings = [f"{n} objects of '{name}' were left out: {ledger_file} has it withdrawn" for name, n in lost.items()]
    return replace(
        source,
        images=tuple(_listed(image, present) for image in source.images),
        classes=by_number(present.values(), ledger),
        warnings=(*source.warnings, *warnings),
    )


def held_out_in_service(names: Sequence[str], ledger: Ledger) -> list[str]:
    """The held-out classes that are in service, by number; then those that the ledger does not know, as they are."""
    found = names_in_service(names, ledger)
    kept = [name for place, name in enumerate(found.names) if place not in found.withdrawn]
    return sorted(kept, key=lambda name: (name in found.unlisted, 0 if name in found.unlisted else ledger.number(name)))


def unlisted_message(where: str, names: Sequence[str], ledger_file: str) -> str:
    """What to do about class names of the data that the ledger does not know."""
    quoted = ", ".join(f"'{name}'" for name in names)
    return (
        f"{where} names {quoted}, which {ledger_file} does not list. A new class: `retort classes add "
        f"{shlex.join(names)}`; another name for a listed one: `retort classes rename OLD NEW`; data of another "
        "product: set `product` in params.yaml"
    )


def _listed(image: SourceImage, present: dict[str, str]) -> SourceImage:
    stays = np.array([name in present for name in image.class_names], dtype=bool)
    return replace(
        image,
        class_names=tuple(present[name] for name in image.class_names if name in present),
        boxes_xyxy_px=image.boxes_xyxy_px[stays],
        unsure=image.unsure or not stays.all(),
    )
