"""What one stage hands to another: paths, and the typed documents with the version each is written in."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LEDGERS = Path("data/classes")
DATASET_CARD = "dataset.json"  # in the folder of a set of pictures


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


class NumberedClass(BaseModel):
    """A class and its number in the product's ledger, which it has for ever."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    number: int


class PicturesCard(Document):
    """What `prepare` says of a set of pictures.

    Attributes:
        images: pictures by split.
        digest: sha256 (hex) over places, bytes and labels.
        warnings: what a person should know.
    """

    images: dict[str, int]
    digest: str
    warnings: tuple[str, ...]


class DatasetCard(PicturesCard):
    """What `prepare` says of the labelled set.

    Attributes:
        source: its kind.
        task: what the labels say.
        classes: base classes; their place is the number that label files and a network's columns have for them.
        new_classes: classes held out as new parts; in label files they follow.
    """

    source: str
    task: Literal["detect"] = "detect"
    classes: tuple[NumberedClass, ...]
    new_classes: tuple[NumberedClass, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All class names, in the order of the ids in label files."""
        return tuple(known.name for known in (*self.classes, *self.new_classes))
