"""What a training reads: views in the epoch's order, shared among its processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler
from ultralytics.data.build import InfiniteDataLoader

from kd_steps.adapters.yolo.train.training_run import TrainingRun
from kd_steps.adapters.yolo.views import ViewDataset
from kd_steps.core.detect.class_rows import replay_draws


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
    cached = run.soft_loss.cached if run.soft_loss else None
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


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, picture): the order is a function of seed and epoch, so a resumed run sees what it would have.

    Args:
        count: pictures; with ``new_count``, the base pictures, which come first.
        seed: of the order.
        rank: of this process.
        world_size: processes that share an epoch.
        new_count: new-part pictures behind the base ones.
        draws: samples an epoch when new parts are mixed in.
        new_share: share of the draws that are new parts.
    """

    def __init__(
        self,
        count: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        new_count: int = 0,
        draws: int = 0,
        new_share: float = 0.0,
    ) -> None:
        self.count, self.seed, self.rank, self.world_size = count, seed, rank, world_size
        self.new_count, self.draws, self.new_share = new_count, draws, new_share
        self.epoch = 0

    def __len__(self) -> int:
        total = self.draws if self.new_count else self.count
        return -(-total // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        if self.new_count:
            order = replay_draws(self.count, self.new_count, self.draws, self.new_share, generator)
        else:
            order = torch.randperm(self.count, generator=generator)
        padded = order.repeat(self.world_size)[: len(self) * self.world_size]  # every rank the same number of batches
        for index in padded[self.rank :: self.world_size].tolist():
            yield epoch, index

    def start_at(self, epoch: int) -> None:
        """Begin the next pass with ``epoch``, as after a resume."""
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Ultralytics' call under DDP; each pass counts its own epoch already, also when loaders run ahead."""
