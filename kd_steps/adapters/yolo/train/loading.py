"""What a training reads: views in the epoch's order, shared among its processes."""

from __future__ import annotations

from typing import Any

from ultralytics.data.build import InfiniteDataLoader

from kd_steps.adapters.yolo.train.training_run import TrainingRun
from kd_steps.adapters.yolo.views import EpochSampler, ViewDataset


def training_loader(
    run: TrainingRun, rank: int, world_size: int, batch_size: int, options: dict[str, Any]
) -> InfiniteDataLoader:
    """The loader of a training's views.

    Args:
        run: the training.
        rank: of this process.
        world_size: processes that share an epoch.
        batch_size: pictures of this process a step.
        options: of Ultralytics' data set.
    """
    mix = run.new_parts
    cached = run.distillation.cached if run.distillation else None
    if cached is not None and cached.keeps_views:
        options = {**options, "cache": None}  # no picture is decoded
    dataset = ViewDataset(run.train, run.plan, run.seed, run.augmentation_digest, cached, prefix="train: ", **options)
    new_count = mix.count if mix else 0
    sampler = EpochSampler(
        count=len(run.train) - new_count,
        seed=run.seed,
        rank=rank,
        world_size=world_size,
        new_count=new_count,
        draws=mix.per_epoch if mix else 0,
        new_share=mix.share if mix else 0.0,
    )
    return InfiniteDataLoader(
        dataset,
        batch_size=min(batch_size, len(sampler)),
        sampler=sampler,
        num_workers=run.loader_workers,
        collate_fn=ViewDataset.collate_fn,
        pin_memory=not run.device.startswith("cpu"),
    )
