"""What a teacher cache is made of: data, views and teacher, and the header and keys that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_steps.adapters.contract_source import current_contract
from kd_steps.adapters.sidecar import Sidecar, read_sidecar, voices_beside
from kd_steps.core.cache.header import OF_THE_HEAD, CacheHeader
from kd_steps.core.cache.keys import CacheKeys
from kd_steps.core.detect.views import ViewPlan, plan_views
from kd_steps.core.recipe import recipe_of
from kd_steps.edge.contract import canonical_digest
from kd_steps.edge.identity import release
from kd_steps.params import Params

if TYPE_CHECKING:
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.data.reader import PreparedSet, TrainingSet
    from kd_steps.adapters.yolo.models import Detector

LIBRARIES = ("ultralytics", "torch", "numpy", "opencv-python-headless")  # they make the pixels and the answers


@dataclass(frozen=True)
class CacheSetting:
    """What a cache is made of.

    Attributes:
        data: the pictures whose views are answered, labelled or not.
        plan: which view an epoch shows.
        sidecar: the note of the teacher.
        teacher: whose answers they are, alone or beside others.
        header: of the cache.
        keys: of all that it is to hold.
    """

    data: TrainingSet
    plan: ViewPlan
    sidecar: Sidecar
    teacher: Detector
    header: CacheHeader
    keys: CacheKeys


def cache_setting(params: Params, prepared: PreparedSet, teacher_folder: Path) -> CacheSetting:
    """The setting that ``params.yaml`` and the folders describe.

    Raises:
        ContractMismatchError: the teacher was trained with another contract.
        ValueError: the teacher's weight file is not the one its sidecar describes.
    """
    from kd_steps.adapters.data.reader import distillation_set, load_unlabelled
    from kd_steps.adapters.yolo.teach.answering import trained

    plan, data = distillation_plan(params), distillation_set(prepared, load_unlabelled())
    sidecar, teacher = trained(params, teacher_folder)
    header = cache_header(params, plan, sidecar, teacher, data.digest)
    keys = CacheKeys([image.digest for image in data.pictures], plan.all_views())
    return CacheSetting(data, plan, sidecar, teacher, header, keys)


def finished_cache(params: Params, prepared: PreparedSet, teacher_folder: Path, folder: Path) -> TeacherCache | None:
    """The cache in a folder, if it holds just what would be asked for now; no network is built to say so.

    What only the teacher's network could tell, its stored header tells: it is of the same weight file, and a number
    that a disk has changed since gives another digest than the header was written with.

    Shards are held to their place and not to their seals: every reader does that before the first step, and reading all
    of a cache each time DVC comes by would find nothing sooner. A shard whose bytes are others is then removed by hand,
    as the reader says; with a hole in it, a cache is not finished, and what fills it proves all shards.

    Returns:
        None where something is to be asked, written or refused, which takes the teacher's network.
    """
    from kd_steps.adapters.cache.folder import CacheError, stored_header
    from kd_steps.adapters.cache.store import TeacherCache, file_names
    from kd_steps.adapters.data.reader import distillation_set, load_unlabelled

    sidecar = read_sidecar(teacher_folder)
    if sidecar.contract.digest != current_contract(params.preprocessing, params.augmentation).digest:
        return None
    if sidecar.classes != prepared.classes:
        return None
    plan, data = distillation_plan(params), distillation_set(prepared, load_unlabelled())
    keys = CacheKeys([image.digest for image in data.pictures], plan.all_views())
    try:
        stored, shards_of = stored_header(folder)
        if not stored.keys() >= OF_THE_HEAD:
            return None
        header = _header(params, plan, sidecar, data.digest, {name: stored[name] for name in OF_THE_HEAD})
        if shards_of != header.answers_digest:
            return None  # damaged, or taken over under other names or an older header: the network tells which
        cache = TeacherCache(folder, header, keys, prove=False)
    except CacheError:
        return None
    whole = file_names(keys, params.cache_logits.shard_views)
    return cache if whole == {path.name for path in folder.iterdir()} else None


def distillation_plan(params: Params) -> ViewPlan:
    """Which views the distillation will show, and so the teacher must answer."""
    distill, cache = params.distill, params.cache_logits
    return plan_views(distill.epochs, distill.training.close_mosaic_fraction, cache.views, cache.closing_views)


def asked_sha256(params: Params, sidecar: Sidecar) -> str:
    """Names whoever answers: a detector's own sha256, or one over all of several with their voices."""
    voices = voices_beside(params, sidecar)
    return canonical_digest([sidecar.sha256, voices]) if voices else sidecar.sha256


def cache_header(params: Params, plan: ViewPlan, teacher: Sidecar, model: Detector, dataset_digest: str) -> CacheHeader:
    """The header of the cache that this teacher, data, parameters and libraries give."""
    from kd_steps.adapters.yolo.models import head_geometry, neck_channels

    head = head_geometry(model)
    told = {
        "bins": head.bins,
        "two_branches": head.end2end and not voices_beside(params, teacher),
        "cells": [(params.preprocessing.imgsz_px // stride) ** 2 for stride in head.strides_px],
        "neck_channels": neck_channels(model),
    }
    return _header(params, plan, teacher, dataset_digest, told)


def _header(
    params: Params, plan: ViewPlan, teacher: Sidecar, dataset_digest: str, head: Mapping[str, Any]
) -> CacheHeader:
    cache = params.cache_logits
    return CacheHeader(
        teacher_sha256=asked_sha256(params, teacher),
        contract_digest=teacher.contract.digest,
        augmentation_digest=teacher.contract.augmentation_digest,
        dataset_digest=dataset_digest,
        imgsz_px=params.preprocessing.imgsz_px,
        seed=params.seed,
        views=plan.views,
        closing_views=plan.closing_views,
        classes=teacher.classes,
        bins=head["bins"],
        two_branches=head["two_branches"],
        cells=tuple(head["cells"]),
        neck_channels=tuple(head["neck_channels"]),
        **cache.asked(),
        pixels=cache.pixels,
        library_versions={name: release(name) for name in LIBRARIES},
        recipe=recipe_of("views", "answers"),
    )
