"""Pictures from the line that nobody has labelled: a folder of any nesting."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kd_steps.adapters.files import files_below
from kd_steps.core.data.naming import PICTURE_SUFFIXES, named_board, picture_ids
from kd_steps.core.data.sample import UNLABELLED
from kd_steps.core.data.source import SourceImage

KEY = "prepare.unlabelled.path in params.yaml"


def load_unlabelled(folder: Path, group_pattern: str | None) -> list[SourceImage]:
    """Read the pictures of a folder and its sub-folders, in the order of their paths; other files don't count.

    Cameras number their pictures from the start again and again, so ids begin with ``unlabelled-``: they then don't
    meet those of the labelled pictures.

    Args:
        folder: of the pictures.
        group_pattern: its first group is the board in a file name. A picture whose name it does not match is a board of
            its own, for line pictures need not be named as the labelled ones are; without a pattern all of them are.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
        ValueError: the pattern cannot be used.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; set {KEY} to your folder of pictures, or to null for none")
    paths = files_below(folder, PICTURE_SUFFIXES)
    if not paths:
        suffixes = ", ".join(sorted(PICTURE_SUFFIXES))
        raise FileNotFoundError(f"{folder}: no pictures ({suffixes}) in it; mend {KEY}, or set it to null for none")
    ids = picture_ids([path.relative_to(folder).as_posix() for path in paths])
    return [_picture(path, f"{UNLABELLED}-{name}", group_pattern) for path, name in zip(paths, ids, strict=True)]


def _picture(path: Path, image_id: str, group_pattern: str | None) -> SourceImage:
    board = None if group_pattern is None else named_board(path.name, group_pattern)
    return SourceImage(
        image_id=image_id,
        group=board or image_id,
        split=UNLABELLED,
        suffix=path.suffix.lower(),
        read=path.read_bytes,
        boxes_xyxy_px=np.zeros((0, 4)),
        class_names=(),
        origin=str(path),
    )
