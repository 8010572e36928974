"""Stage `cache_logits`: the teacher answers every view that the distillation will show, once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from kd_steps.adapters.files import write_json
from kd_steps.params import Params, load_params
from kd_steps.stage_entry import run_stage

if TYPE_CHECKING:
    from kd_steps.adapters.teacher_cache import CacheKeys, ViewOfImage
    from kd_steps.adapters.yolo.models import Detector
    from kd_steps.adapters.yolo.teacher import FrozenTeacher
    from kd_steps.adapters.yolo.views import ViewDataset
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
    from kd_steps.adapters.yolo.answering import frozen, view_source

    keys = teacher_cache.CacheKeys([image.digest for image in images], plan.all_views())
    print(f"{folder}: {teacher_cache.open_for_writing(folder, header)}")  # noqa: T201
    teacher = frozen(params, model)
    views = view_source(params, images, plan, header.augmentation_digest)
    with tqdm(total=len(keys), unit="view", desc="cache_logits") as progress:

        def told(count: int, made: bool) -> None:
            if not made:
                progress.update(count)  # fresh ones are counted as the teacher answers them

        teacher_cache.write_shards(
            folder,
            header,
            keys,
            params.cache_logits.shard_views,
            lambda part: answers(part, teacher, views, params.cache_logits.batch, progress),
            told,
        )
    return keys, teacher.forwards


def answers(
    keys: Sequence[ViewOfImage], teacher: FrozenTeacher, views: ViewDataset, batch: int, progress: tqdm[None]
) -> Iterator[AnsweredView]:
    """The teacher's answers to some views, in their order."""
    import torch

    from kd_steps.core.cache_rows import AnsweredView

    places = {image.digest: index for index, image in enumerate(views.images)}
    for start in range(0, len(keys), batch):
        samples = [views.view(places[key.image], key.view) for key in keys[start : start + batch]]
        pixels = torch.stack([sample["img"] for sample in samples])
        records = teacher.records(pixels, [sample["pixel_hash"] for sample in samples])
        for sample, record in zip(samples, records, strict=True):
            labels = torch.cat([sample["cls"], sample["bboxes"]], dim=1).numpy()
            yield AnsweredView(record, sample["img"].numpy(), labels)
        progress.update(len(samples))


if __name__ == "__main__":
    run_stage(main)
