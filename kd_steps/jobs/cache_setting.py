"""What a teacher cache is made of: data, views and teacher, and the header and keys that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kd_steps.params import Params

if TYPE_CHECKING:
    from kd_steps.adapters.data.reader import PreparedSet, TrainingSet
    from kd_steps.adapters.sidecar import Sidecar
    from kd_steps.adapters.yolo.models import Detector
    from kd_steps.core.cache.header import CacheHeader
    from kd_steps.core.cache.keys import CacheKeys
    from kd_steps.core.detect.views import ViewPlan


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
    from kd_steps.adapters.yolo.teach.answering import cache_header, distillation_plan, trained
    from kd_steps.core.cache.keys import CacheKeys

    plan, data = distillation_plan(params), distillation_set(prepared, load_unlabelled())
    sidecar, teacher = trained(params, teacher_folder)
    header = cache_header(params, plan, sidecar, teacher, data.digest)
    keys = CacheKeys([image.digest for image in data.pictures], plan.all_views())
    return CacheSetting(data, plan, sidecar, teacher, header, keys)
