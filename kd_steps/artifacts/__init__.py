"""What one stage hands to another: where it lies (``paths``), and the typed documents, each with its version."""

from kd_steps.artifacts.document import Document, OtherVersionError, read_json, require_version
from kd_steps.artifacts.documents import (
    DatasetCard,
    EngineEntry,
    EngineReport,
    Findings,
    GateRule,
    GateVerdict,
    LeftOut,
    NumberedClass,
    PicturesCard,
    Receipt,
    RegisteredModel,
)

__all__ = [
    "DatasetCard",
    "Document",
    "EngineEntry",
    "EngineReport",
    "Findings",
    "GateRule",
    "GateVerdict",
    "LeftOut",
    "NumberedClass",
    "OtherVersionError",
    "PicturesCard",
    "Receipt",
    "RegisteredModel",
    "read_json",
    "require_version",
]
