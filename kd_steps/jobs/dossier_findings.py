"""What the dossier shows, gathered from what the stages left; what is not there is said, not invented."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kd_steps.artifacts import DatasetCard, EngineReport, Findings, GateVerdict, paths, read_json
from kd_steps.core.report.dossier_tables import (
    chain_rows,
    class_rows,
    engine_rows,
    failures,
    few_shot_rows,
    gate_rows,
    headline,
    key_figures,
)
from kd_steps.core.report.samples import choose_pictures, mark_picture
from kd_steps.core.report.svg_charts import Line, latency_chart, legend_mark, lines_of, precision_recall_chart
from kd_steps.params import Params

if TYPE_CHECKING:
    from kd_steps.adapters.report.dossier import Panel, Sample

TEACHER = "teacher"
MOST_CURVES = 12  # charts of classes; beyond, only the classes that the students know worst


def gather_findings(params: Params) -> dict[str, Any]:
    """Every finding of the pipeline, under the names that the page's template has for them."""
    from kd_steps.adapters.report.lineage import lineage_of, versions_of

    gate = GateVerdict.read(paths.GATE).model_dump()
    engines = EngineReport.read(paths.ENGINE_REPORT).model_dump()["engines"]
    lines = lines_of(list(engines), TEACHER)
    shown_engine = most_telling_engine(gate, engines)
    return {
        "title": params.report.title,
        "gate": gate,
        "headline": headline(gate),
        "failing": failures(gate, required=True),
        "optional_failing": failures(gate, required=False),
        "figures": key_figures(gate, shown_engine),
        "shown_engine": shown_engine,
        "samples": sample_pictures(params, engines, shown_engine),
        "legend": {engine: legend_mark(line) for engine, line in lines.items()},
        "curves": curve_charts(engines, lines),
        "engines": list(engines),
        "classes": class_rows(engines),
        "engine_rows": engine_rows(engines),
        "latency": latency_picture(lines),
        "gate_rows": gate_rows(gate),
        "few_shot": few_shot_rows(
            _findings(paths.FEW_SHOT_SCORES), engines.get("student-before"), engines.get("onnx-fp32", {})
        ),
        "validation": _findings(paths.VALIDATION),
        "dataset": _optional(paths.PREPARED / paths.DATASET_CARD),
        "unlabelled": sum(_optional(paths.UNLABELLED / paths.DATASET_CARD).get("images", {}).values()),
        "teacher_choice": _findings(paths.TEACHER_CHOICE),
        "chain": chain_rows(_optional(paths.STUDENT / paths.SIDECAR)),
        "lineage": lineage_of(Path.cwd()),
        "versions": versions_of(Path.cwd()),
    }


def most_telling_engine(gate: Mapping[str, Any], engines: Mapping[str, Any]) -> str:
    """The engine whose figures and pictures are shown: a required one that did not pass, else the first required."""
    measured = [target for target in gate["required_targets"] if target in engines]
    blocked = [target for target in measured if gate["targets"][target] != "pass"]
    return str([*blocked, *measured, *engines][0])


def sample_pictures(params: Params, engines: Mapping[str, Any], engine: str) -> list[Sample]:
    """Test pictures with their objects, and with what the teacher and one engine saw at the line's confidence."""
    from kd_steps.adapters.report.dossier import Sample, picture_uri

    tables = {e: paths.detections(e) for e in (TEACHER, engine)}
    if not all(path.is_file() for path in (paths.PREPARED / "boxes.parquet", *tables.values())):
        return []
    images = pd.read_parquet(paths.PREPARED / "images.parquet").set_index("image_id")
    objects = pd.read_parquet(paths.PREPARED / "boxes.parquet").query("split == 'test'")
    names = _class_names()
    seen = {e: pd.read_parquet(path) for e, path in tables.items()}
    seen = {e: table[table["score"] >= params.evaluate.operating_confidence] for e, table in seen.items()}
    by_picture = {str(picture): own for picture, own in objects.groupby("image_id", sort=True)}
    errors = {
        picture: _errors(own, seen[engine][seen[engine]["image_id"] == picture]) for picture, own in by_picture.items()
    }
    classes = {picture: list(own["class_name"]) for picture, own in by_picture.items()}
    samples = []
    for picture, why in choose_pictures(classes, errors, params.report.sample_images):
        own, row = by_picture[picture], images.loc[[picture]].to_dict("records")[0]
        panels = [_truth_panel(own)]
        for e, table in seen.items():
            found = table[table["image_id"] == picture]
            panels.append(_engine_panel(e, own, found, names, set(engines[e]["per_class"])))
        size_px = (int(row["width_px"]), int(row["height_px"]))
        samples.append(Sample(picture, why, size_px, picture_uri(paths.PREPARED / row["path"]), panels))
    return samples


def curve_charts(engines: Mapping[str, Any], lines: Mapping[str, Line]) -> list[tuple[str, bool, str]]:
    """(class, whether it is new, chart) for each class that has a curve."""
    path = paths.CURVES
    if not path.is_file():
        return []
    table = pd.read_parquet(path)
    rows = sorted(class_rows(engines), key=lambda row: row.worst_ap50)[:MOST_CURVES]
    kept = {row.name for row in rows}
    charts = []
    for row in class_rows(engines):
        own = table[table["class_name"] == row.name]
        if row.name in kept and len(own):
            curves = {str(e): part[["recall", "precision"]].to_numpy() for e, part in own.groupby("engine", sort=False)}
            title = f"Precision over recall of {row.name} at IoU 0.5, for {', '.join(curves)}"
            charts.append((row.name, row.is_new, precision_recall_chart(title, curves, lines)))
    return charts


def latency_picture(lines: Mapping[str, Line]) -> str:
    """The distribution of the total latency of every engine; '' where it was not measured."""
    path = paths.LATENCY
    if not path.is_file():
        return ""
    table = pd.read_parquet(path)
    times = {e: table.loc[table["engine"] == e, "total_ms"].to_numpy() for e in lines}
    times = {engine: values for engine, values in times.items() if len(values)}
    return (
        latency_chart("Distribution of the total latency of each engine, in milliseconds", times, lines)
        if times
        else ""
    )


def _errors(objects: pd.DataFrame, detections: pd.DataFrame) -> int:
    marks = mark_picture(objects, detections)
    return int((~marks.found).sum() + (~marks.hits).sum())


def _truth_panel(objects: pd.DataFrame) -> Panel:
    from kd_steps.adapters.report.dossier import Box, Panel

    boxes = [Box.of(row, "truth", row["class_name"]) for _, row in objects.iterrows()]
    return Panel("Ground truth", f"{len(boxes)} labelled", boxes)


def _engine_panel(
    engine: str, objects: pd.DataFrame, detections: pd.DataFrame, names: list[str], known: set[str]
) -> Panel:
    from kd_steps.adapters.report.dossier import Box, Panel

    strange = ~objects["class_name"].isin(known)
    expected = objects[~strange]
    marks = mark_picture(expected, detections)
    boxes = [
        Box.of(row, "hit" if hit else "false", f"{names[int(row['class_id'])]} {row['score']:.2f}")
        for (_, row), hit in zip(detections.iterrows(), marks.hits, strict=True)
    ]
    boxes += [Box.of(row, "missed", row["class_name"]) for _, row in expected[~marks.found].iterrows()]
    boxes += [Box.of(row, "unknown", row["class_name"]) for _, row in objects[strange].iterrows()]
    told = f"{int(marks.hits.sum())} of {len(expected)} found, {int((~marks.hits).sum())} false"
    if strange.any():
        told += f", {int(strange.sum())} of a class it does not know"
    return Panel("Teacher" if engine == TEACHER else f"Student, {engine}", told, boxes)


def _class_names() -> list[str]:
    """Class names by class id, as the detections count them: base classes, new ones, those only engines know."""
    data = DatasetCard.read(paths.PREPARED / paths.DATASET_CARD)
    report = EngineReport.read(paths.ENGINE_REPORT)
    # Engines also know parts that only the line has.
    learnt = (name for engine in report.engines.values() for name in engine.per_class)
    return list(dict.fromkeys([*data.names, *learnt]))


def _findings(path: Path) -> dict[str, Any]:
    return Findings.read(path).values() if path.is_file() else {}


def _optional(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}
