"""What ``params.yaml`` says of the preprocessing probes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kd_steps.params.types import Count, Section


class Validate(Section):
    parity_probes: Count
    parity_tolerance: Annotated[float, Field(ge=0, lt=1)]
