"""What ``params.yaml`` says of the registry."""

from __future__ import annotations

from kd_steps.params.types import Section


class Register(Section):
    experiment: str
