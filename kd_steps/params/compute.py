"""Where and how trainings compute, as ``params.yaml`` says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kd_steps.params.types import Count, CountOrZero, Section


class Compute(Section):
    device: Annotated[str, Field(pattern=r"^(auto|cpu|\d+(,\d+)*)$")]
    processes: Count
    precision: Literal["auto", "fp32", "bf16", "amp"]
    loader_workers: CountOrZero
    cache_images: Literal["auto", "ram", "none"]
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
