"""What the sections of ``params.yaml`` are made of: bounded numbers, and a section that is closed to unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

GROUPS = ("training", "terms")  # of a section's knobs, for those who depend on one of them alone

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
ProductName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
]  # a file's and a model's name begin so
Optimizer = Literal["SGD", "Adam", "AdamW", "MuSGD", "auto"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A section of ``params.yaml``: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def flat(self) -> dict[str, Any]:
        """JSON values by name, those of the groups beside the section's own: how they are grouped says nothing."""
        values = self.model_dump(mode="json")
        groups = [values.pop(name) for name in GROUPS if name in values]
        return {name: value for part in (values, *groups) for name, value in part.items()}

    def changed(self, **values: Any) -> Self:
        """A copy with other values, each by its name, whether it stands in the section itself or in a group of it."""
        section = self.model_dump(by_alias=True)
        for name, value in values.items():
            place = next(part for part in (section, *(section.get(g, {}) for g in GROUPS)) if name in part)
            place[name] = value
        return type(self).model_validate(section)
