"""A teacher's answers to every view of a distillation, into a cache folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from kd_steps.adapters.files import sole_writer, write_json
from kd_steps.adapters.on_ray import Cluster, cluster_of, on_ray
from kd_steps.artifacts import paths
from kd_steps.jobs.shard_job import ShardJob
from kd_steps.params import Params
from kd_steps.running import progress

if TYPE_CHECKING:
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.data.reader import PreparedSet
    from kd_steps.adapters.sidecar import Sidecar
    from kd_steps.adapters.yolo.models import Detector
    from kd_steps.core.cache.header import CacheHeader
    from kd_steps.core.cache.keys import CacheKeys, ViewOfImage
    from kd_steps.core.cache.rows import AnsweredView
    from kd_steps.core.data.sample import LabelledImage
    from kd_steps.core.detect.views import ViewPlan


def fill_cache(params: Params, teacher_folder: Path, folder: Path) -> dict[str, Any]:
    """Fill a cache with the answers of a trained teacher, or what a kill left missing in it.

    Args:
        params: all of ``params.yaml``; ``distill`` is the training that the answers are for.
        teacher_folder: weights and sidecar of the teacher.
        folder: of the cache.

    Returns:
        What it took: views, and how many in each number format, teacher forwards, bytes, seconds.

    Raises:
        ValueError: the teacher cannot be used, or teacher, data and student do not fit.
    """
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.jobs.cache_setting import finished_cache

    prepared, started = load_prepared(), time.monotonic()
    cache, forwards = None, 0
    if folder.is_dir():  # where nothing is, nothing is made before teacher and data are known to fit
        with sole_writer(folder):
            cache = finished_cache(params, prepared, teacher_folder, folder)
    if cache:
        print(f"{folder}: resumed, and every view is answered already")  # noqa: T201
    else:
        cache, forwards = _ask(params, prepared, teacher_folder, folder)
    formats = cache.views_by_precision
    if len(formats) > 1:
        told = ", ".join(f"{count:,} in {name}" for name, count in formats.items())
        print(f"{folder}: answered {told}; remove the folder to have every view answered in one")  # noqa: T201
    return {
        "views": len(cache),
        "views_by_precision": formats,
        "teacher_forwards": forwards,
        "bytes": cache.bytes,
        "bytes_per_view": round(cache.bytes / len(cache)),
        "seconds": round(time.monotonic() - started, 1),
    }


def _ask(params: Params, prepared: PreparedSet, teacher_folder: Path, folder: Path) -> tuple[TeacherCache, int]:
    """Have the teacher answer what a cache lacks; the whole cache, and how many views were answered now."""
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.yolo.initial import initial_model
    from kd_steps.jobs.cache_setting import cache_setting
    from kd_steps.jobs.fit import require_fitting

    made_of = cache_setting(params, prepared, teacher_folder)
    student = initial_model(params.distill, None, prepared.classes, params.seed)
    require_fitting(teacher_folder, made_of.sidecar, made_of.teacher, student, prepared.classes)
    keys, forwards = fill(
        params,
        folder,
        made_of.header,
        made_of.teacher,
        made_of.data.pictures,
        made_of.plan,
        more_weight_files(params, made_of.sidecar),
        made_of.sidecar.renamed_from,
    )
    return TeacherCache(folder, made_of.header, keys), forwards


def leave_empty(folder: Path) -> dict[str, Any]:
    """A cache folder without answers, for a student that asks none; its header says so.

    Returns:
        What it took: nothing.
    """
    with sole_writer(folder):
        for old in folder.iterdir():
            old.unlink()
        write_json(folder / paths.CACHE_HEADER.name, {"answers": "ema"})
    return {"views": 0, "teacher_forwards": 0, "bytes": 0, "bytes_per_view": 0, "seconds": 0.0}


def fill(
    params: Params,
    folder: Path,
    header: CacheHeader,
    model: Detector,
    images: Sequence[LabelledImage],
    plan: ViewPlan,
    more_weights: Sequence[Path] = (),
    renamed_from: Sequence[str] = (),
) -> tuple[CacheKeys, int]:
    """Let a teacher answer what its cache does not hold yet.

    Args:
        params: all of ``params.yaml``.
        folder: of the cache.
        header: of the cache.
        model: the teacher.
        images: the training pictures.
        plan: which views there are.
        more_weights: weight files of those who answer beside it.
        renamed_from: sha256 of the weight files that are the teacher's but for the names of its classes.

    Returns:
        The cache's keys, and how many views the teachers answered now.
    """
    from kd_steps.adapters.cache.folder import open_for_writing
    from kd_steps.adapters.cache.store import write_shards
    from kd_steps.adapters.yolo.hardware import hardware
    from kd_steps.adapters.yolo.teach.answer_stream import answered_views
    from kd_steps.adapters.yolo.teach.answering import asked_teacher, view_source
    from kd_steps.core.cache.keys import CacheKeys

    section, places = params.cache_logits, {image.digest: place for place, image in enumerate(images)}
    keys = CacheKeys(list(places), plan.all_views())
    teacher = asked_teacher(params, model, header.classes, more_weights)
    views = view_source(params, images, plan, header.augmentation_digest)
    with sole_writer(folder), tqdm(total=len(keys), unit="view", desc=str(folder)) as bar:
        print(f"{folder}: {open_for_writing(folder, header, renamed_from)}")  # noqa: T201

        def tell(count: int) -> None:
            bar.update(count)
            progress.tell(bar.n, bar.total, "views")

        def answer(part: Sequence[ViewOfImage]) -> Iterator[AnsweredView]:
            wanted = [(places[key.image], key.view) for key in part]
            for answered in answered_views(teacher, views, wanted, section.batch, section.processes):
                tell(len(answered))
                yield from answered

        def told(count: int, made: bool) -> None:
            if not made:
                tell(count)  # fresh ones are counted as they are answered

        precision = hardware(params).precision.name
        cluster = cluster_of(params.compute)
        if cluster is not None:
            job = ShardJob(params, folder.resolve(), header, keys, model, images, plan, tuple(more_weights))
            return keys, _spread(job, cluster, precision, told)
        write_shards(folder, header, keys, section.shard_views, precision, answer, told)
    return keys, teacher.forwards


def _spread(job: ShardJob, cluster: Cluster, precision: str, told: Callable[[int, bool], None]) -> int:
    """Have the missing shards made on a cluster, each by one process; how many views were answered."""
    from kd_steps.adapters.cache.store import planned_shards, remove_unplanned

    shard_views, missing, forwards = job.params.cache_logits.shard_views, [], 0
    for shard, is_missing in planned_shards(job.folder, job.keys, shard_views, precision):
        if is_missing:
            missing.append(shard)
        else:
            told(shard.place.count, False)
    for count, answered in on_ray(job, missing, cluster, in_order=False):
        told(count, False)
        forwards += answered
    remove_unplanned(job.folder, job.keys, shard_views)
    return forwards


def more_weight_files(params: Params, sidecar: Sidecar) -> list[Path]:
    """The weight files of those who answer beside a trained detector; none beside an assistant.

    Raises:
        TrackingError: the registry cannot be reached, or does not have one of them.
    """
    from kd_steps.adapters.sidecar import voices_beside
    from kd_steps.jobs.weight_files import weight_file

    if not voices_beside(params, sidecar):
        return []
    found = [weight_file(teacher.weights) for teacher in params.cache_logits.more_teachers]
    return [path for path in found if path is not None]
