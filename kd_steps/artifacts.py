"""What one stage hands to another: paths, and the typed documents with the version each is written in."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LEDGERS = Path("data/classes")


def ledger_path(product: str) -> Path:
    """Where the ledger of a product's classes lies."""
    return LEDGERS / f"{product}.csv"


class Document(BaseModel):
    """A JSON document of ours. ``schema`` stands first in the file and says which version of the kind it is.

    A kind raises ``SCHEMA`` when its keys change their meaning, come or go; a reader refuses another version.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True)
    SCHEMA: ClassVar[int] = 1

    version: int = Field(default=0, alias="schema")

    @model_validator(mode="after")
    def _is_of_this_version(self) -> Self:
        if self.version == 0:  # made here, not read
            object.__setattr__(self, "version", self.SCHEMA)
        if self.version != self.SCHEMA:
            raise ValueError(f"schema is {self.version}, this release reads {self.SCHEMA}")
        return self
