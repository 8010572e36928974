"""Releases that passed the gate become MLflow model versions with lineage; every stage has a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kd_steps.artifacts import (
    EngineEntry,
    EngineReport,
    Findings,
    GateVerdict,
    Receipt,
    RegisteredModel,
    paths,
    read_json,
)
from kd_steps.core.evaluation.verdicts import failing_rules, passed_targets, shown
from kd_steps.edge.contract import canonical_digest
from kd_steps.edge.manifest import Manifest, read_manifest
from kd_steps.edge.release import Release, ReleaseError, read_release
from kd_steps.edge.verification import verify_files
from kd_steps.params import PARAMS_FILE, Params

if TYPE_CHECKING:
    from kd_steps.adapters.mlflow.runs import StageRecord
    from kd_steps.adapters.mlflow.tracking import Store
    from kd_steps.adapters.mlflow.versions import Registered
    from kd_steps.params.assistant import AssistantStep

# stage → its metrics, its training log, and files worth keeping with the run
STAGE_FILES: dict[str, tuple[Path | None, Path | None, tuple[Path, ...]]] = {
    "prepare": (paths.PREPARED / paths.DATASET_CARD, None, ()),
    "validate": (paths.VALIDATION, None, ()),
    "train_teacher": (paths.TEACHER_SCORES, paths.TEACHER / paths.TRAINING_LOG, (paths.TEACHER / paths.SIDECAR,)),
    "cache_logits": (paths.CACHE_FACTS, None, (paths.CACHE_HEADER,)),
    "distill": (
        paths.STUDENT_SCORES,
        paths.STUDENT / paths.TRAINING_LOG,
        (paths.STUDENT / paths.SIDECAR, paths.TEACHER_CHOICE),
    ),
    "few_shot": (
        paths.FEW_SHOT_SCORES,
        paths.FEW_SHOT / paths.TRAINING_LOG,
        (paths.FEW_SHOT / paths.SIDECAR, paths.FEW_SHOT / paths.WEIGHTS),  # what is shipped can become a teacher
    ),
    "export": (None, None, ()),
    "evaluate": (paths.ENGINE_REPORT, None, ()),
    "gate": (paths.GATE, None, (paths.DOSSIER, Path("dvc.lock"))),
}


VERSIONED = (paths.PREPARED / paths.DATASET_CARD, paths.ENGINE_REPORT, paths.GATE)  # from the first release on


COSTS = {"seconds", "teacher_forwards", "pictures_per_second", "peak_memory_bytes"}  # of a stage that ran


class GateFailedError(ValueError):
    """The gate failed, so nothing was registered; the message names each rule with value, limit and interval."""


@dataclass(frozen=True)
class Shipped:
    """A release whose files are exactly what its manifest says."""

    folder: Path
    manifest: Manifest
    release: Release


def register_releases(root: Path, params: Params) -> Receipt:
    """Log a run a stage, and register the releases that passed.

    Raises:
        GateFailedError: the gate failed; the runs are logged, nothing is registered.
        ManifestError: a release is not what its manifest says; nothing is logged.
        ReleaseError: a release is damaged or missing; nothing is logged.
    """
    from kd_steps.adapters.mlflow.address import tracking_uri, without_credentials
    from kd_steps.adapters.mlflow.leftovers import tidy_result
    from kd_steps.adapters.mlflow.runs import log_result
    from kd_steps.adapters.mlflow.tracking import open_store
    from kd_steps.adapters.report.lineage import lineage_of

    verdict = GateVerdict.read(paths.GATE)
    report = EngineReport.read(paths.ENGINE_REPORT)
    gate = verdict.model_dump()
    passed = [target for target in passed_targets(gate) if report.engines[target].release_digest]
    shipped = {target: _proved(paths.RELEASES / target) for target in passed}
    records = [_record(stage, verdict, shipped) for stage in STAGE_FILES]
    records += [_assistant_record(name, step) for name, step in params.assistant.chain.items()]
    tags = {**lineage_of(root), "gate": "passed" if verdict.passed else "failed"}
    digest = _digest_of(records, shipped)
    with open_store(root, params.register_.experiment) as store:
        logged = log_result(store, digest, tags, records)
        registered = {
            target: _register(store, params, logged.runs["evaluate"], each, verdict, report.engines[target], tags)
            for target, each in shipped.items()
        }
        tidy_result(store, digest, logged)
    if logged.put_back:
        print(f"MLflow had lost these files of the stages' runs, or had others; put back: {', '.join(logged.put_back)}")
    for target in params.export.targets:
        _say(target, registered.get(target), verdict, report)
    if not verdict.passed:
        rules = failing_rules(gate, params.gate.required_targets) or failing_rules(gate)
        raise GateFailedError(
            "the gate failed, so no engine was registered:\n  - " + "\n  - ".join(rules) + "\n"
            f"{paths.DOSSIER} shows the evidence; change the data or params.yaml and run `dvc repro` again"
        )
    return Receipt(
        tracking_uri=without_credentials(tracking_uri(root)),
        experiment=params.register_.experiment,
        parent_run_id=logged.runs["parent"],
        gate_passed=True,
        models=[
            RegisteredModel(
                name=version.name,
                version=version.version,
                target=target,
                engine_digest=shipped[target].manifest.engine_digest,
                release_digest=shipped[target].release.release_digest,
                created=version.created,
            )
            for target, version in registered.items()
        ],
        not_registered=[target for target in params.export.targets if target not in registered],
        problem=None,
    )


def _proved(folder: Path) -> Shipped:
    """A release whose files are as its manifest says; the machine may be another than the target."""
    manifest = read_manifest(folder)
    verify_files(manifest, folder)
    release = read_release(folder, manifest)
    if release is None:
        raise ReleaseError(f"{folder}: no release.json; `dvc repro evaluate` writes it")
    return Shipped(folder, manifest, release)


def _is_release(folder: Path, digest: str) -> bool:
    """Whether a folder that MLflow keeps is the release of this digest, with every file as its manifest says."""
    try:
        return _proved(folder).release.release_digest == digest
    except ValueError:
        return False


def _record(stage: str, gate: GateVerdict, shipped: Mapping[str, Shipped]) -> StageRecord:
    from kd_steps.adapters.mlflow.runs import StageRecord
    from kd_steps.adapters.training_log import read_curve

    metrics_file, curve, files = STAGE_FILES[stage]
    metrics = _metrics(metrics_file) if metrics_file and metrics_file.is_file() else {}
    if stage == "evaluate":
        metrics = metrics.get("engines", {})
    if stage == "export":
        metrics = {
            target: {"parameters": m.manifest.parameters, "bytes": sum(f.bytes for f in m.manifest.files.values())}
            for target, m in shipped.items()
        }
    return StageRecord(
        stage=stage,
        params=yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8")).get(stage) or {},
        metrics=metrics,
        curves=read_curve(curve) if curve and curve.is_file() else (),
        files=tuple(path for path in (metrics_file, *files) if path and path.is_file()),
        failed=stage == "gate" and not gate.passed,
    )


def _metrics(path: Path) -> dict[str, Any]:
    """What a stage measured. The version counts where it always did: a result keeps its digest."""
    values: dict[str, Any] = read_json(path)
    return values if path in VERSIONED else Findings.read(path).values()


def _assistant_record(name: str, step: AssistantStep) -> StageRecord:
    from kd_steps.adapters.mlflow.runs import StageRecord
    from kd_steps.adapters.training_log import read_curve

    folder, scores = paths.assistant(name), paths.assistant_scores(name)
    return StageRecord(
        stage=f"assistant@{name}",
        params=step.model_dump(mode="json"),
        metrics=_metrics(scores),
        curves=read_curve(folder / paths.TRAINING_LOG),
        files=(scores, folder / paths.SIDECAR),
    )


def _digest_of(records: Sequence[StageRecord], shipped: Mapping[str, Shipped]) -> str:
    """Names a pipeline result: the same parameters, measurements and releases give the same digest.

    What a stage cost is no part of it: finished work that is handed over costs nothing, and is the same result.
    """
    stages = [[r.stage, r.params, _without_costs(r.metrics), r.curves] for r in records]
    return canonical_digest([stages, {target: each.release.release_digest for target, each in shipped.items()}])


def _without_costs(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_costs(part) for name, part in value.items() if name not in COSTS}
    return value


def _register(
    store: Store,
    params: Params,
    run_id: str,
    shipped: Shipped,
    gate: GateVerdict,
    measured: EngineEntry,
    lineage: Mapping[str, str],
) -> Registered:
    from kd_steps.adapters.mlflow.versions import register_engine

    manifest = shipped.manifest
    rules = [rule for rule in gate.rules if rule.target == manifest.target]
    tags = {
        **lineage,
        "target": manifest.target,
        "release_digest": shipped.release.release_digest,
        "engine_digest": manifest.engine_digest,
        "engine_state": measured.state,  # the manifest knows only that it was built
        "contract_digest": manifest.contract.digest,
        "student_sha256": manifest.source_sha256,
        **{f"gate.{rule.name}": f"{rule.verdict} ({shown(rule.value)})" for rule in rules},
    }
    name = f"{params.product}-{manifest.target}"
    # The folder and nothing else: a device refuses one that holds a file the manifest does not name.
    digest = shipped.release.release_digest
    return register_engine(store, name, run_id, shipped.folder, tags, lambda kept: _is_release(kept, digest))


def _say(target: str, registered: Registered | None, verdict: GateVerdict, report: EngineReport) -> None:
    """A line for each target: its version, or why it has none."""
    if registered is not None:
        how = "registered" if registered.created else "already registered, the same digest"
        if registered.put_back:
            how += "; its files were missing or changed in MLflow and were put back"
        print(f"{registered.name} version {registered.version}: {how}")
    elif target in report.left_out:
        print(f"{target}: not registered: export left it out: {report.left_out[target]}")
    else:
        rules = "; ".join(failing_rules(verdict.model_dump(), [target]))
        print(f"{target}: not registered: {rules or 'the gate failed'}")
