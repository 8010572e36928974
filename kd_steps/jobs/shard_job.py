"""One shard of a teacher cache, made by one process anywhere: teacher, views and keys travel with the job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_steps.params import Params

if TYPE_CHECKING:
    from kd_steps.adapters.cache.store import PlannedShard
    from kd_steps.adapters.yolo.models import Detector
    from kd_steps.adapters.yolo.teach.teacher import Teacher
    from kd_steps.adapters.yolo.views import ViewDataset
    from kd_steps.core.cache.header import CacheHeader
    from kd_steps.core.cache.keys import CacheKeys, ViewOfImage
    from kd_steps.core.cache.rows import AnsweredView
    from kd_steps.core.data.sample import LabelledImage
    from kd_steps.core.detect.views import ViewPlan


@dataclass(frozen=True)
class ShardJob:
    """Makes shards of a cache, one a call; a process builds the teacher once.

    Attributes:
        params: all of ``params.yaml``.
        folder: of the cache.
        header: of the cache.
        keys: of the whole cache.
        model: the teacher.
        images: the training pictures.
        plan: which views there are.
        more_weights: weight files of those who answer beside the teacher.
    """

    params: Params
    folder: Path
    header: CacheHeader
    keys: CacheKeys
    model: Detector
    images: Sequence[LabelledImage]
    plan: ViewPlan
    more_weights: tuple[Path, ...]

    def __call__(self, shard: PlannedShard) -> tuple[int, int]:
        """Make a shard.

        Returns:
            Its views, and how many of them the teacher answered.
        """
        from kd_steps.adapters.cache.store import make_shard

        before = self._teacher.forwards
        make_shard(self.folder, shard, self.header, self.keys, self._answer)
        return shard.place.count, self._teacher.forwards - before

    def _answer(self, part: Sequence[ViewOfImage]) -> Iterator[AnsweredView]:
        from kd_steps.adapters.yolo.teach.answer_stream import answered_here

        wanted = [(self._places[key.image], key.view) for key in part]
        for answered in answered_here(self._teacher, self._views, wanted, self.params.cache_logits.batch):
            yield from answered

    @cached_property
    def _teacher(self) -> Teacher:
        from kd_steps.adapters.yolo.teach.answering import asked_teacher

        return asked_teacher(self.params, self.model, self.header.classes, self.more_weights)

    @cached_property
    def _views(self) -> ViewDataset:
        from kd_steps.adapters.yolo.teach.answering import view_source

        # A shard shows each of its pictures once: kept in memory, they would only grow with the set.
        compute = self.params.compute.model_copy(update={"cache_images": "none"})
        params = self.params.model_copy(update={"compute": compute})
        return view_source(params, self.images, self.plan, self.header.augmentation_digest)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {image.digest: place for place, image in enumerate(self.images)}

    def __getstate__(self) -> dict[str, Any]:
        """What travels: not what this process has made of it."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}
