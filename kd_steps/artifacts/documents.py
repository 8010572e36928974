"""The typed documents that stages hand on, each a kind of :class:`~kd_steps.artifacts.document.Document`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from kd_steps.artifacts.document import Document, read_json


class Findings(Document):
    """What a stage measured or judged, for people, plots and MLflow; its keys are the stage's affair."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)
    UNVERSIONED = 1

    def values(self) -> dict[str, Any]:
        """What was found, without the version."""
        return self.model_dump(exclude={"version"})


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


class LeftOut(Document):
    """What `export` could not build, and why.

    Attributes:
        reasons: target → what was wrong with it.
    """

    reasons: dict[str, str]


class Part(BaseModel):
    """A piece of a document; the document has the version."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Interval(Part):
    """A measured value with its confidence interval; None where nothing could be measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int | None


class Control(Interval):
    """One engine timed twice: whether the ratio contains 1, at which level, and after how many attempts."""

    ok: bool
    confidence_level: float
    attempts: int


class Percentiles(Part):
    """Of a phase's times, ms."""

    p50: float
    p90: float
    p99: float


class Latency(Part):
    """Times of one engine, and the ratio of its total to the teacher's."""

    preprocess_ms: Percentiles
    inference_ms: Percentiles
    postprocess_ms: Percentiles
    total_ms: Percentiles
    ratio_to_teacher: Interval
    rounds: int
    threads: int


class ClassAccuracy(Part):
    """Average precision of one class; None where no test picture shows it."""

    ap50_95: float | None
    ap50: float | None
    n_objects: int
    is_new: bool


class Place(Part):
    """Where an engine was measured (``here`` or a bundle's name), how busy it was, how near to its golden outputs."""

    where: str
    cpu_model: str
    cores: int
    load_per_core: float | None
    golden_error: float


class EngineEntry(Part):
    """What `evaluate` found out about one engine; ``release_digest`` is None where it is none to ship."""

    target: str
    state: Literal["built", "verified-sim", "measured", "verified-device"]
    role: Literal["teacher", "student", "base_student"]
    engine_digest: str
    release_digest: str | None
    parameters: int
    bytes: int
    measured: Place
    map50_95: float | None
    map50: float | None
    map75: float | None
    map50_95_all: float | None
    map_ratio: Interval
    per_class: dict[str, ClassAccuracy]
    per_class_ap50_interval: dict[str, Interval]
    false_alarms_per_picture: Interval
    latency: Latency
    latency_control: Control
    confidence_level: float


class EngineReport(Document):
    """``metrics/engines.json``: every engine that was measured, the teacher first; what `export` left out, why."""

    engines: dict[str, EngineEntry]
    left_out: dict[str, str]


class GateRule(Part):
    """One limit applied to one engine; ``reason`` is the verdict in plain words."""

    name: str
    target: str
    value: float | None
    limit: float | None
    low: float | None
    high: float | None
    n: int | None
    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str


class GateVerdict(Document):
    """``metrics/gate.json``: all rules, a verdict for each engine, and for the pipeline.

    ``releases`` names by digest what was judged; None where an engine is not one to ship.
    """

    passed: bool
    rules: list[GateRule]
    targets: dict[str, Literal["pass", "fail"]]
    releases: dict[str, str | None]
    required_targets: list[str]
    confidence_level: float
    summary: list[str]


class RegisteredModel(Part):
    """A version in the registry; ``created`` is False where it was there already."""

    name: str
    version: str
    target: str
    engine_digest: str
    release_digest: str
    created: bool


class Receipt(Document):
    """``.retort/registration.json``: what was registered from this folder, and where.

    Attributes:
        tracking_uri: the store, without credentials.
        experiment: that has the runs.
        parent_run_id: of the result's runs; empty where none was logged.
        gate_passed: whether anything may be registered.
        models: versions of the releases that the gate last judged.
        not_registered: targets without a version.
        problem: why the last run of `register` failed, in a line; None where it did not.
    """

    SCHEMA: ClassVar[int] = 2

    tracking_uri: str
    experiment: str
    parent_run_id: str
    gate_passed: bool
    models: list[RegisteredModel]
    not_registered: list[str]
    problem: str | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a receipt, also one of version 1, which knew no ``problem``."""
        values = read_json(path)
        if isinstance(values, dict) and values.get("schema") == 1:
            return cls.model_validate(values | {"schema": cls.SCHEMA, "problem": None})
        return super().read(path)
