"""The limits that an engine must keep, and which engines must pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from kd_steps.core.evaluation.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Gate(Limits):
    required_targets: Annotated[list[str], Field(min_length=1)]
