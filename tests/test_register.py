"""``register`` as a user runs it: a process in a project folder, against a real SQLite store or a dead server."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from pathlib import Path

import pytest
import yaml
from dossier_fixture import build_project, engines_metrics, gate_verdict, write
from verdict_documents import receipt_json

from kd_steps.adapters.mlflow.tracking import open_store
from kd_steps.artifacts import Receipt, paths
from kd_steps.edge.manifest import ManifestError, read_manifest
from kd_steps.edge.verification import verify_files
from kd_steps.jobs.register_engines import STAGE_FILES
from kd_steps.register import main

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]


def register(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "kd_steps.register"],
        cwd=root,
        env={**clean, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def versions(root: Path) -> dict[str, list]:
    with open_store(root, "retort") as store:
        return {
            m.name: store.client.search_model_versions(f"name='{m.name}'")
            for m in store.client.search_registered_models()
        }


def runs(root: Path) -> list:
    with open_store(root, "retort") as store:
        return list(store.client.search_runs([store.experiment_id], max_results=1000))


@pytest.fixture(scope="module", autouse=True)
def _own_store() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = build_project(tmp_path_factory.mktemp("project"), optional_fails=True)
    with chdir(root), redirect_stdout(io.StringIO()) as said:
        main()
    assert "ort-cpu-int8: not registered: latency_ratio of ort-cpu-int8 is 0.53, the limit is 0.5" in said.getvalue()
    return root


def test_the_store_stays_in_the_project(registered):
    assert (registered / "mlflow.db").is_file()
    assert list((registered / "mlartifacts").rglob("model.xml"))
    assert not (registered / "mlruns").exists()


def test_the_ledger_of_the_release_is_kept_for_validate(registered):
    ledger = (registered / "data/classes/retort.csv").read_text()
    assert (registered / "metrics/released/retort.csv").read_text() == ledger


def test_passed_targets_have_a_version_with_files_lineage_and_verdicts(registered):
    found = versions(registered)
    assert set(found) == {"retort-onnx-fp32", "retort-openvino-fp16"}
    (version,) = found["retort-openvino-fp16"]
    stored = json.loads((registered / "models/releases/openvino-fp16/release.json").read_text())
    with open_store(registered, "retort") as store:
        assert store.client.get_model_version_by_alias(version.name, "candidate").version == version.version
    assert version.current_stage == "Staging"
    assert version.tags["dataset_digest"] == "d" * 64
    assert version.tags["teacher_sha256"] == "1" * 64
    assert version.tags["student_sha256"] == "3" * 64
    assert version.tags["gate.map_ratio"] == "pass (0.97)"
    assert version.tags["release_digest"] == stored["release_digest"]
    assert version.tags["engine_digest"] == stored["engine_digest"]
    assert version.tags["engine_state"] == "verified-device", "the gate's machine ran it"
    with open_store(registered, "retort") as store:
        address = f"runs:/{version.run_id}/engines/openvino-fp16"
        assert version.source == address
        folder = Path(store.client.download_artifacts(version.run_id, "engines/openvino-fp16"))
    source = registered / "models/releases/openvino-fp16"
    for path in source.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    verify_files(read_manifest(folder), folder)  # as a device does: nothing is missing, changed or too much


def test_every_stage_has_a_run_with_params_metrics_and_curves(registered):
    by_name = {run.data.tags.get("pipeline_stage", "parent"): run for run in runs(registered)}
    stages = list(STAGE_FILES)
    assert len(stages) == 9
    assert set(by_name) == {*stages, "parent"}
    assert {by_name[s].data.tags["mlflow.parentRunId"] for s in stages} == {by_name["parent"].info.run_id}
    assert by_name["distill"].data.params["phases.warm_up.temperature"] == "1.0"
    assert by_name["evaluate"].data.metrics["teacher/map50_95"] == pytest.approx(0.61)
    assert by_name["gate"].data.metrics["rules/latency_ratio/ort-cpu-int8/value"] == pytest.approx(0.53)
    with open_store(registered, "retort") as store:
        curve = store.client.get_metric_history(by_name["train_teacher"].info.run_id, "curve/metrics/mAP50-95_B")
        student = by_name["distill"].info.run_id
        terms = [store.client.get_metric_history(student, f"curve/train/{name}") for name in ("kd_class", "kd_feature")]
    assert [(m.step, round(m.value, 3)) for m in curve] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert [[m.value for m in term] for term in terms] == [[3.0, 1.5, 1.0], [4.0, 2.0, 4 / 3]]
    assert {run.info.status for run in by_name.values()} == {"FINISHED"}


def test_every_assistant_has_a_run_of_its_own(tmp_path):
    root = build_project(tmp_path / "project")
    file = root / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params["assistant"]["chain"] = {"m": {"taught_by": "teacher", "model": "yolo11m.yaml", "epochs": 3}}
    params["distill"]["teacher"] = "assistants/m"
    file.write_text(yaml.safe_dump(params))
    write(root / "metrics/assistants/m.json", {"val_map50_95": 0.5, "cache": {"teacher_forwards": 40}})
    shutil.copytree(root / "models/student", root / "models/assistants/m")
    done = register(root)
    assert done.returncode == 0, done.stderr
    (run,) = [run for run in runs(root) if run.data.tags.get("pipeline_stage") == "assistant@m"]
    assert (run.data.params["model"], run.data.params["taught_by"]) == ("yolo11m.yaml", "teacher")
    assert run.data.metrics["val_map50_95"] == 0.5
    with open_store(root, "retort") as store:
        assert len(store.client.get_metric_history(run.info.run_id, "curve/train/kd_class")) == 3
        assert "sidecar.json" in {file.path for file in store.client.list_artifacts(run.info.run_id)}


def test_receipt_names_what_was_registered(registered):
    receipt = json.loads((registered / paths.RECEIPT).read_text())
    assert receipt["gate_passed"] is True
    assert [m["target"] for m in receipt["models"]] == ["onnx-fp32", "openvino-fp16"]
    assert receipt["not_registered"] == ["ort-cpu-int8"]
    assert receipt["parent_run_id"] in {run.info.run_id for run in runs(registered)}


def test_the_same_digest_twice_adds_nothing(registered, monkeypatch, capsys):
    before = (len(runs(registered)), {name: len(v) for name, v in versions(registered).items()})
    monkeypatch.chdir(registered)
    main()
    assert "already registered" in capsys.readouterr().out
    assert (len(runs(registered)), {name: len(v) for name, v in versions(registered).items()}) == before
    assert [m["created"] for m in json.loads((registered / paths.RECEIPT).read_text())["models"]] == [
        False,
        False,
    ]


def test_finished_work_that_was_handed_over_is_the_same_result(tmp_path, monkeypatch):
    root = build_project(tmp_path)
    monkeypatch.chdir(root)
    main()
    before = {run.info.run_id for run in runs(root)}
    told = json.loads((root / "metrics/cache.json").read_text())
    write(root / "metrics/cache.json", {**told, "seconds": 0.1, "teacher_forwards": 0})
    main()
    assert {run.info.run_id for run in runs(root)} == before
    write(root / "metrics/cache.json", {**told, "views": told["views"] + 1})
    main()
    assert {run.info.run_id for run in runs(root)} > before, "another result"


def test_a_failed_gate_registers_nothing_and_names_the_rule(tmp_path, monkeypatch):
    root = build_project(tmp_path, passed=False)
    write(root / paths.RECEIPT, receipt_json(versions=("1",)))  # of an earlier run
    done = register(root)
    assert done.returncode == 1
    assert (
        "map_ratio of openvino-fp16 is 0.912, the limit is 0.95 (interval 0.9 to 0.924, n = 240): fail" in done.stderr
    )
    assert "Traceback" not in done.stderr
    receipt = Receipt.model_validate_json((root / paths.RECEIPT).read_bytes())
    assert (receipt.gate_passed, receipt.models) == (False, [])
    assert receipt.problem == "the gate failed, so no engine was registered:"
    assert versions(root) == {}
    failed = {run.data.tags.get("pipeline_stage", "parent") for run in runs(root) if run.info.status == "FAILED"}
    assert failed == {"parent", "gate"}
    assert len(runs(root)) == 10
    write(root / "metrics/engines.json", engines_metrics())
    write(root / "metrics/gate.json", gate_verdict())
    monkeypatch.chdir(root)
    main()
    assert len(versions(root)) == 3


def test_a_target_that_export_left_out_is_told_as_such(tmp_path, monkeypatch, capsys):
    root = build_project(tmp_path)
    shutil.rmtree(root / "models/releases/ort-cpu-int8")
    report, verdict = engines_metrics(), gate_verdict()
    del report["engines"]["ort-cpu-int8"]
    write(root / "metrics/engines.json", report | {"left_out": {"ort-cpu-int8": "its outputs differ by 3"}})
    del verdict["targets"]["ort-cpu-int8"]
    verdict["rules"] = [rule for rule in verdict["rules"] if rule["target"] != "ort-cpu-int8"]
    write(root / "metrics/gate.json", verdict)
    monkeypatch.chdir(root)
    main()
    assert "ort-cpu-int8: not registered: export left it out: its outputs differ by 3" in capsys.readouterr().out


def test_a_changed_engine_is_refused_before_anything_is_logged(tmp_path, monkeypatch):
    root = build_project(tmp_path)
    (root / "models/releases/onnx-fp32/model.onnx").write_bytes(b"x" * 650)
    monkeypatch.chdir(root)
    with pytest.raises(ManifestError, match=r"onnx-fp32.*model\.onnx has another sha256|model\.onnx has 650 bytes"):
        main()
    assert not (root / "mlflow.db").exists()


def test_a_dead_server_fails_soon_and_tells_how_to_resume(tmp_path):
    root = build_project(tmp_path)
    with socket.socket() as taken:  # bound, never listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        uri = f"http://someone:secret@127.0.0.1:{taken.getsockname()[1]}"
        start = time.monotonic()
        done = register(root, MLFLOW_TRACKING_URI=uri)
        took_s = time.monotonic() - start
    assert done.returncode == 1
    assert uri.replace("someone:secret@", "") in done.stderr
    assert "secret" not in done.stderr + done.stdout
    assert "dvc repro register" in done.stderr
    assert "Nothing was lost" in done.stderr
    assert took_s < 60
    assert not (root / paths.RECEIPT).exists()


def test_a_failure_leaves_a_receipt_that_is_true(tmp_path):
    root = build_project(tmp_path)
    releases = {path.parent.name: json.loads(path.read_text()) for path in root.glob("models/releases/*/release.json")}
    judged = {target: release["release_digest"] for target, release in releases.items()}
    write(root / "metrics/gate.json", gate_verdict() | {"releases": judged})
    assert register(root).returncode == 0
    before = Receipt.model_validate_json((root / paths.RECEIPT).read_bytes())
    (root / paths.RECEIPT).rename(root / paths.RECEIPT_BEFORE)  # where an older release wrote it
    (root / "mlartifacts").rename(root / "hidden")
    (root / "mlflow.db").rename(root / "kept.db")
    (root / "mlflow.db").write_bytes(b"not a database" * 100)
    done = register(root)
    assert done.returncode == 1
    after = Receipt.model_validate_json((root / paths.RECEIPT).read_bytes())
    assert after.models == before.models, "they are registered still"
    assert "file is not a database" in after.problem
    assert not (root / paths.RECEIPT_BEFORE).exists()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://someone:secret@127.0.0.1:{taken.getsockname()[1]}"
        assert register(root, MLFLOW_TRACKING_URI=uri).returncode == 1
    other = (root / paths.RECEIPT).read_text()
    assert Receipt.model_validate_json(other).models == [], "nothing is known to be registered there"
    assert "secret" not in other
    (root / "hidden").rename(root / "mlartifacts")
    (root / "kept.db").replace(root / "mlflow.db")
    done = register(root)
    assert done.returncode == 0, done.stderr
    last = Receipt.model_validate_json((root / paths.RECEIPT).read_bytes())
    assert [model.version for model in last.models] == [model.version for model in before.models]
    assert last.problem is None


def test_an_engine_whose_files_mlflow_lost_is_whole_again(tmp_path):
    root = build_project(tmp_path)
    assert register(root).returncode == 0
    shutil.rmtree(root / "mlartifacts")
    done = register(root)
    assert done.returncode == 0, done.stderr
    assert (
        "already registered, the same digest; its files were missing or changed in MLflow and were put" in done.stdout
    )
    assert "MLflow had lost these files of the stages' runs, or had others; put back: " in done.stdout
    assert "few_shot/sidecar.json" in done.stdout
    for target in ("onnx-fp32", "openvino-fp16"):
        (kept,) = (root / "mlartifacts").rglob(f"engines/{target}")
        verify_files(read_manifest(kept), kept)
    assert "put back" not in register(root).stdout
