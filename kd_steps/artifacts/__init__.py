"""What one stage hands to another: where it lies (``paths``), and the typed documents, each with its version."""

from kd_steps.artifacts.documents import (
    DatasetCard,
    Document,
    EngineEntry,
    EngineReport,
    Findings,
    GateRule,
    GateVerdict,
    LeftOut,
    NumberedClass,
    OtherVersionError,
    PicturesCard,
    Receipt,
    RegisteredModel,
    read_json,
    require_version,
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
