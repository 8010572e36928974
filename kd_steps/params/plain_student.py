"""The same student without a teacher."""

from __future__ import annotations

from pydantic import field_validator

from kd_steps.params.types import CountOrZero, Section


class PlainStudent(Section):
    seeds: list[CountOrZero]

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value):
            raise ValueError("names a seed twice")
        return value
