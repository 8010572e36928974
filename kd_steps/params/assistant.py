"""The networks between teacher and student."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from kd_steps.params.training import ScaledModel
from kd_steps.params.types import Count, Section, Sha256


class AssistantStep(Section):
    """One teacher assistant."""

    taught_by: str
    model: str | ScaledModel
    weights_sha256: Sha256 | None = None
    epochs: Count


class Assistant(Section):
    chain: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")], AssistantStep]

    @property
    def last(self) -> str:
        """The folder below ``models/`` that teaches the student."""
        return f"assistants/{list(self.chain)[-1]}" if self.chain else "teacher"

    @model_validator(mode="after")
    def _each_is_taught_by_the_one_before(self) -> Assistant:
        before = "teacher"
        for name, step in self.chain.items():
            if step.taught_by != before:
                raise ValueError(
                    f"chain: {name} is taught_by '{step.taught_by}', but the one before it is '{before}': put the "
                    "assistants in their order, largest first, and let each name the one before"
                )
            before = f"assistants/{name}"
        return self
