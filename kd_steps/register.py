"""Stage ``register``: engines that passed the gate → MLflow model versions with lineage; a failed gate → none.

The runs are logged either way. The receipt is written last, and only if the gate passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kd_steps.adapters.files import read_json, write_json
from kd_steps.core.evaluation.verdicts import failing_rules, passed_targets, shown
from kd_steps.edge.contract import canonical_digest
from kd_steps.edge.manifest import Manifest, read_manifest
from kd_steps.edge.verification import verify_files
from kd_steps.jobs.released_classes import keep_released
from kd_steps.params import PARAMS_FILE, Params, load_params
from kd_steps.stage_entry import run_stage

if TYPE_CHECKING:
    from kd_steps.adapters.mlflow.tracking import StageRecord, Store
    from kd_steps.adapters.mlflow.versions import Registered
    from kd_steps.params.teaching import AssistantStep

METRICS, MODELS, ENGINES = Path("metrics"), Path("models"), Path("models/engines")
RECEIPT = METRICS / "registration.json"
# stage → its metrics, its training log, and files worth keeping with the run
STAGE_FILES: dict[str, tuple[Path | None, Path | None, tuple[Path, ...]]] = {
    "prepare": (Path("data/prepared/dataset.json"), None, ()),
    "validate": (METRICS / "validation.json", None, ()),
    "train_teacher": (
        METRICS / "alone/teacher.json",
        MODELS / "teacher/results.csv",
        (MODELS / "teacher/sidecar.json",),
    ),
    "cache_logits": (METRICS / "cache.json", None, (Path("data/cache/header.json"),)),
    "distill": (
        METRICS / "distill.json",
        MODELS / "student/results.csv",
        (MODELS / "student/sidecar.json", METRICS / "teacher_choice.json"),
    ),
    "few_shot": (
        METRICS / "few_shot.json",
        MODELS / "few_shot/results.csv",
        (MODELS / "few_shot/sidecar.json", MODELS / "few_shot/weights.pt"),  # what is shipped can become a teacher
    ),
    "export": (None, None, ()),
    "evaluate": (METRICS / "engines.json", None, ()),
    "gate": (METRICS / "gate.json", None, (Path("report/index.html"), Path("dvc.lock"))),
}


class GateFailedError(ValueError):
    """The gate failed, so nothing was registered; the message names each rule with value, limit and interval."""


def main() -> None:
    """Log the runs, register what passed, write the receipt; raise if the gate failed."""
    from kd_steps.adapters.mlflow import tracking
    from kd_steps.adapters.report.lineage import lineage_of

    params, root = load_params(), Path.cwd()
    RECEIPT.unlink(missing_ok=True)  # an old success must not outlive a new failure
    gate = read_json(METRICS / "gate.json")
    manifests = {target: _proved_manifest(ENGINES / target) for target in passed_targets(gate)}
    records = [_record(stage, gate, manifests) for stage in STAGE_FILES]
    records += [_assistant_record(name, step) for name, step in params.assistant.chain.items()]
    tags = {**lineage_of(root), "gate": "passed" if gate["passed"] else "failed"}
    with tracking.open_store(root, params.register_.experiment) as store:
        runs = tracking.log_result(store, _digest_of(records, manifests), tags, records)
        registered = {
            target: _register(store, params, runs["export"], manifest, gate, tags)
            for target, manifest in manifests.items()
        }
    for target in params.export.targets:
        if target in registered:
            _say_registered(registered[target])
        elif target not in gate["targets"]:
            print(f"{target}: not registered: export left it out")
        else:
            print(f"{target}: not registered: {'; '.join(failing_rules(gate, [target])) or 'the gate failed'}")
    if not gate["passed"]:
        rules = failing_rules(gate, params.gate.required_targets) or failing_rules(gate)
        raise GateFailedError(
            "the gate failed, so no engine was registered:\n  - " + "\n  - ".join(rules) + "\n"
            "report/index.html shows the evidence; change the data or params.yaml and run `dvc repro` again"
        )
    keep_released(params.product)
    write_json(RECEIPT, _receipt(params, root, runs["parent"], registered, manifests))


def engine_digest(manifest: Manifest) -> str:
    """sha256 (hex) of what an engine does: files, contract, classes, thresholds; not of how or when it was judged."""
    values = manifest.to_dict()
    return canonical_digest({k: values[k] for k in ("files", "contract_digest", "classes", "new_classes", "operating")})


def _proved_manifest(folder: Path) -> Manifest:
    """The manifest of an engine whose files are exactly what it says; the machine may be another than the target."""
    manifest = read_manifest(folder)
    verify_files(manifest, folder)
    return manifest


def _record(stage: str, gate: Mapping[str, Any], manifests: Mapping[str, Manifest]) -> StageRecord:
    from kd_steps.adapters.mlflow.tracking import StageRecord
    from kd_steps.adapters.training_log import read_curve

    metrics_file, curve, files = STAGE_FILES[stage]
    metrics = read_json(metrics_file) if metrics_file and metrics_file.is_file() else {}
    if stage == "export":
        metrics = {
            target: {"parameters": m.parameters, "bytes": sum(f.bytes for f in m.files.values())}
            for target, m in manifests.items()
        }
    return StageRecord(
        stage=stage,
        params=yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8")).get(stage) or {},
        metrics=metrics,
        curves=read_curve(curve) if curve and curve.is_file() else (),
        files=tuple(path for path in (metrics_file, *files) if path and path.is_file()),
        failed=stage == "gate" and not gate["passed"],
    )


def _assistant_record(name: str, step: AssistantStep) -> StageRecord:
    from kd_steps.adapters.mlflow.tracking import StageRecord
    from kd_steps.adapters.training_log import read_curve

    folder = MODELS / "assistants" / name
    return StageRecord(
        stage=f"assistant@{name}",
        params=step.model_dump(mode="json"),
        metrics=read_json(METRICS / f"assistants/{name}.json"),
        curves=read_curve(folder / "results.csv"),
        files=(METRICS / f"assistants/{name}.json", folder / "sidecar.json"),
    )


def _digest_of(records: Sequence[StageRecord], manifests: Mapping[str, Manifest]) -> str:
    """Names a pipeline result: the same parameters, measurements and engines give the same digest."""
    stages = [[r.stage, r.params, r.metrics, r.curves] for r in records]
    return canonical_digest([stages, {target: engine_digest(m) for target, m in manifests.items()}])


def _register(
    store: Store, params: Params, run_id: str, manifest: Manifest, gate: Mapping[str, Any], lineage: Mapping[str, str]
) -> Registered:
    from kd_steps.adapters.mlflow.versions import register_engine

    rules = [rule for rule in gate["rules"] if rule["target"] == manifest.target]
    measured = read_json(METRICS / "engines.json")[manifest.target]
    tags = {
        **lineage,
        "target": manifest.target,
        "engine_digest": engine_digest(manifest),
        "engine_state": measured["state"],  # the manifest knows only that it was built
        "contract_digest": manifest.contract.digest,
        "student_sha256": manifest.source_sha256,
        **{f"gate.{rule['name']}": f"{rule['verdict']} ({shown(rule['value'])})" for rule in rules},
    }
    name = f"{params.product}-{manifest.target}"
    # The folder and nothing else: a device refuses one that holds a file the manifest does not name.
    return register_engine(store, name, run_id, ENGINES / manifest.target, tags)


def _say_registered(registered: Registered) -> None:
    how = "registered" if registered.created else "already registered, the same digest"
    print(f"{registered.name} version {registered.version}: {how}")


def _receipt(
    params: Params,
    root: Path,
    parent_run_id: str,
    registered: Mapping[str, Registered],
    manifests: Mapping[str, Manifest],
) -> dict[str, Any]:
    from kd_steps.adapters.mlflow.tracking import tracking_uri, without_credentials

    return {
        "tracking_uri": without_credentials(tracking_uri(root)),
        "experiment": params.register_.experiment,
        "parent_run_id": parent_run_id,
        "gate_passed": True,
        "models": [
            {
                "name": version.name,
                "version": version.version,
                "target": target,
                "engine_digest": engine_digest(manifests[target]),
                "created": version.created,
            }
            for target, version in registered.items()
        ],
        "not_registered": [target for target in params.export.targets if target not in registered],
    }


if __name__ == "__main__":
    run_stage(main)
