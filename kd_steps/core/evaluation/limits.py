"""What an engine must keep to pass the gate: keys of a section of ``params.yaml``, with their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Fraction = Annotated[float, Ge(0), Le(1)]
NonNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an engine must keep; the gate section of ``params.yaml`` says why.

    Attributes:
        confidence_level: of every interval, such as 0.95.
        min_map_ratio: least mAP50-95 as a share of the teacher's.
        max_latency_ratio: largest paired total latency as a share of the teacher's.
        min_compression_ratio: least teacher parameters for one of the engine's.
        min_class_ap50: least AP50 of every base class.
        min_new_class_ap50: least AP50 of every new class.
        pass_unmeasured_new_classes: whether a new class without test objects may pass unmeasured.
        max_false_alarms_per_picture: most detections on a defect-free picture, in the mean.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012 - how params.yaml is held to it

    confidence_level: Annotated[float, Gt(0.5), Lt(1)]
    min_map_ratio: NonNegative
    max_latency_ratio: Positive
    min_compression_ratio: Positive
    min_class_ap50: Fraction
    min_new_class_ap50: Fraction
    pass_unmeasured_new_classes: bool
    max_false_alarms_per_picture: NonNegative
