"""The source of data that ``params.yaml`` names: its pictures and labels, in its own words."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from kd_steps.core.data.source import SourceSet
from kd_steps.params import Params


def load_source(params: Params) -> SourceSet:
    """The source that ``prepare.source.kind`` names, its pixels not read yet."""
    source = params.prepare.source
    pattern = params.prepare.splits.group_pattern
    match source.kind:
        case "synthetic":
            from kd_steps.adapters.sources.synthetic import load_synthetic

            drawn, new_parts = source.synthetic, params.prepare.new_parts
            return load_synthetic(
                train_boards=drawn.train_boards,
                test_boards=drawn.test_boards,
                defect_free_boards=drawn.defect_free_boards,
                new_part_boards=new_parts.shots * len(new_parts.classes),
                new_classes=new_parts.classes,
                image_size_px=drawn.image_size_px,
                seed=params.seed,
            )
        case "deeppcb":
            from kd_steps.adapters.sources.deeppcb import load_deeppcb

            folder = source.deeppcb.path or os.environ.get("RETORT_DEEPPCB")
            folder = _given(folder, "deeppcb.path", ", or set the variable RETORT_DEEPPCB")
            return load_deeppcb(folder, source.deeppcb.split_by)
        case "yolo":
            from kd_steps.adapters.sources.yolo import load_yolo

            return load_yolo(_given(source.yolo.path, "yolo.path"), pattern)
        case "voc":
            from kd_steps.adapters.sources.voc import load_voc

            pictures, annotations = _given(source.voc.images, "voc.images"), source.voc.annotations
            return load_voc(pictures, _given(annotations, "voc.annotations"), pattern)
        case "coco":
            from kd_steps.adapters.sources.coco import load_coco

            pictures, annotations = _given(source.coco.images, "coco.images"), source.coco.annotations
            return load_coco(pictures, _given(annotations, "coco.annotations"), pattern)


def add_unlabelled(source: SourceSet, params: Params) -> SourceSet:
    """The source, with the pictures of ``prepare.unlabelled.path`` behind its own where that is set."""
    folder = params.prepare.unlabelled.path
    if folder is None:
        return source
    from kd_steps.adapters.sources.unlabelled import load_unlabelled

    pictures = load_unlabelled(folder, params.prepare.splits.group_pattern)
    return replace(source, images=(*source.images, *pictures))


def _given(path: Path | str | None, key: str, otherwise: str = "") -> Path:
    if path is None:
        raise ValueError(f"params.yaml: prepare.source.{key} is null; set it to your folder or file{otherwise}")
    return Path(path)
