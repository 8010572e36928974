"""Stage `cache_logits`: the teacher answers every view that the distillation will show, once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from kd_steps.adapters.files import sole_writer, write_json
from kd_steps.params import Params, load_params
from kd_steps.stage_entry import run_stage

if TYPE_CHECKING:
    from kd_steps.adapters.teacher_cache import CacheKeys, ViewOfImage
    from kd_steps.adapters.yolo.models import Detector
    from kd_steps.core.cache_header import CacheHeader
    from kd_steps.core.cache_rows import AnsweredView
    from kd_steps.core.labelled import LabelledImage
    from kd_steps.core.views import ViewPlan

FOLDER = Path("data/cache")
TEACHER = Path("models/teacher")


def main() -> None:
    """Fill the cache, or what a kill left missing in it."""
    from kd_steps.adapters.prepared import load_prepared
    from kd_steps.adapters.teacher_cache import TeacherCache
    from kd_steps.adapters.yolo.answering import cache_header, distillation_plan, trained

    params, prepared, started = load_params(), load_prepared(), time.monotonic()
    plan = distillation_plan(params)
    sidecar, model = trained(params, TEACHER)
    header = cache_header(params, plan, sidecar, model, prepared.digest)
    images = prepared.training_pictures()
    keys, forwards = fill(params, FOLDER, header, model, images, plan)
    cache = TeacherCache(FOLDER, header, keys)
    write_json(
        Path("metrics/cache.json"),
        {
            "views": len(cache),
            "teacher_forwards": forwards,
            "bytes": cache.bytes,
            "bytes_per_view": round(cache.bytes / len(cache)),
            "seconds": round(time.monotonic() - started, 1),
        },
    )


def fill(
    params: Params,
    folder: Path,
    header: CacheHeader,
    model: Detector,
    images: Sequence[LabelledImage],
    plan: ViewPlan,
) -> tuple[CacheKeys, int]:
    """Let a teacher answer what its cache does not hold yet.

    Args:
        params: all of ``params.yaml``.
        folder: of the cache.
        header: of the cache.
        model: the teacher.
        images: the training pictures.
        plan: which views there are.

    Returns:
        The cache's keys, and how many views the teacher answered now.
    """
    from kd_steps.adapters import teacher_cache
    from kd_steps.adapters.yolo.answer_stream import answered_views
    from kd_steps.adapters.yolo.answering import frozen, view_source

    section, places = params.cache_logits, {image.digest: place for place, image in enumerate(images)}
    keys = teacher_cache.CacheKeys(list(places), plan.all_views())
    teacher = frozen(params, model)
    views = view_source(params, images, plan, header.augmentation_digest)
    with sole_writer(folder), tqdm(total=len(keys), unit="view", desc="cache_logits") as progress:
        print(f"{folder}: {teacher_cache.open_for_writing(folder, header)}")  # noqa: T201

        def answer(part: Sequence[ViewOfImage]) -> Iterator[AnsweredView]:
            wanted = [(places[key.image], key.view) for key in part]
            for answered in answered_views(teacher, views, wanted, section.batch):
                progress.update(len(answered))
                yield from answered

        def told(count: int, made: bool) -> None:
            if not made:
                progress.update(count)  # fresh ones are counted as they are answered

        teacher_cache.write_shards(folder, header, keys, section.shard_views, answer, told)
    return keys, teacher.forwards


if __name__ == "__main__":
    run_stage(main)
