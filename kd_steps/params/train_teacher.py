"""The teacher's training."""

from __future__ import annotations

from pydantic import model_validator

from kd_steps.params.training import Training
from kd_steps.params.types import CountOrZero


class TrainTeacher(Training):
    weights: str | None
    epochs: CountOrZero

    @model_validator(mode="after")
    def _something_is_there(self) -> TrainTeacher:
        if self.epochs == 0 and self.weights is None:
            raise ValueError("epochs: 0 takes the weights as they are, but weights is null; name a weight file")
        return self
