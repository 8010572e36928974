"""A JSON document of ours: the version it is written in, and how it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        FileNotFoundError: names the file and the command that makes it.
        ValueError: the file is torn or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file; `dvc repro` makes it") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete it, `dvc repro` makes it again") from error


class OtherVersionError(ValueError):
    """A file is of a version that this release does not read; the message names both, the file and the mend."""


def require_version(path: Path, values: Any, kind: str, expected: int, unversioned: int | None, mend: str) -> None:
    """Refuse what was read from a file where it is of another version.

    Args:
        path: the file.
        values: what it holds.
        kind: what it should be, in the message.
        expected: the version that this release reads.
        unversioned: the version of a file that tells none; None: no release wrote such.
        mend: what the user can do.

    Raises:
        OtherVersionError: it is of another version.
    """
    found = values.get("schema", unversioned) if isinstance(values, dict) else None
    if found != expected:
        raise OtherVersionError(
            f"{path}: written as schema {found}, this release reads schema {expected} of {kind}; {mend}"
        )


class Document(BaseModel):
    """A JSON document of ours. ``schema`` stands first in the file and says which version of the kind it is.

    A kind raises ``SCHEMA`` when its keys change their meaning, come or go; a reader refuses another version.
    ``UNVERSIONED`` is the version of the files that earlier releases wrote without one, if they did.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True)
    SCHEMA: ClassVar[int] = 1
    UNVERSIONED: ClassVar[int | None] = None

    version: int = Field(default=0, alias="schema")

    @model_validator(mode="after")
    def _is_of_this_version(self) -> Self:
        if self.version == 0:  # made here, not read
            object.__setattr__(self, "version", self.SCHEMA)
        if self.version != self.SCHEMA:
            raise ValueError(f"schema is {self.version}, this release reads {self.SCHEMA}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a document of this kind.

        Raises:
            FileNotFoundError: names the file and the command that makes it.
            ValueError: the file is damaged, of another kind, or of another version.
        """
        values = read_json(path)
        mend = "`dvc repro` makes it again"
        require_version(path, values, f"its {cls.__name__}", cls.SCHEMA, cls.UNVERSIONED, mend)
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise ValueError(
                f"{path}: not a {cls.__name__} ({faults}); delete it, `dvc repro` makes it again"
            ) from error
