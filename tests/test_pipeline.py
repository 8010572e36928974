"""The whole pipeline under DVC, from nothing, on a tiny project; then what re-runs when something changes."""

import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
import stage_deps
from tiny_project import (
    STAGES,
    FinishedProject,
    change_params,
    commit,
    copy_project,
    dvc,
    git,
    lock,
    outs_of,
    ran,
    read,
    run,
    stages_of,
    versions,
)
from yolo_folder import jpeg

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

AFTER_NEW_PARTS = ["prepare", "validate", "few_shot", "export", "evaluate", "gate", "report", "register"]
# Beside the declared outputs: scratch and settings, DVC's own notes, and MLflow's store.
ALLOWED = (".retort/", ".dvc/", ".git/", "dvc.lock", "mlflow.db", "mlartifacts/")


def below(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def lasting(path: str) -> str:
    """The Python file of a compiled one; of a temporary file, the one whose place it takes."""
    path = re.sub(r"__pycache__/([^/]+?)\.cpython-\d+(\.opt-\d)?\.pyc(\.\d+)?$", r"\1.py", path)
    return re.sub(r"(^|/)\.([^/]+)\.[a-z0-9_]{8}(\.\w+)?$", r"\1\2", path)


@pytest.fixture
def project(finished_project: FinishedProject, tmp_path: Path) -> Path:
    """A copy of the finished project, to change."""
    return copy_project(finished_project.root, tmp_path / "project")


def test_every_stage_ran_and_left_what_it_declares(finished_project, record_testsuite_property):
    root = finished_project.root
    record_testsuite_property("dvc_repro_seconds", finished_project.seconds)
    assert ran(finished_project.output) == list(STAGES)
    for stage, paths in outs_of(root).items():
        for path in paths:
            assert (root / path).is_file() or any((root / path).iterdir()), f"{stage} left no {path}"


def test_the_verdict_the_receipt_and_the_dossier_agree(finished_project):
    root = finished_project.root
    gate, receipt = read(root, "metrics/gate.json"), read(root, ".retort/registration.json")
    assert gate["passed"] is True
    assert {model["target"] for model in receipt["models"]} == {t for t, v in gate["targets"].items() if v == "pass"}
    assert {model["name"]: [model["version"]] for model in receipt["models"]} == versions(root)
    assert set(gate["required_targets"]) <= {model["target"] for model in receipt["models"]}
    page = (root / "report/index.html").read_text(encoding="utf-8")
    assert all(rule["name"] in page for rule in gate["rules"])
    assert read(root, "metrics/engines.json")["engines"]["teacher"]["map50_95"] > 0, "the gate judged nothing"


def test_nothing_lies_outside_the_declared_outputs(finished_project):
    root, outputs = finished_project.root, [path for paths in outs_of(finished_project.root).values() for path in paths]
    tracked = set(git(root, "ls-files").splitlines())
    files = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    strange = {path for path in files - tracked if not path.startswith(ALLOWED) and not below(path, outputs)}
    assert strange == set()
    new = ["??", "dvc.lock", "??", "metrics/"]  # of metrics/, only the classes that were registered
    assert git(root, "status", "--porcelain").split() == new, "a stage or DVC changed a tracked file"
    assert git(root, "ls-files", "--others", "--exclude-standard", "metrics").split() == ["metrics/released/retort.csv"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_its_dependencies_and_writes_its_outputs_only(finished_project, stage):
    """What its Python opened while it ran, held against dvc.yaml."""
    description = stages_of(finished_project.root)[stage]
    outputs, opened = outs_of(finished_project.root)[stage], finished_project.opened[stage]
    seen = [(writes, lasting(path)) for writes, path in opened if not path.startswith(ALLOWED)]
    read_paths = {path for writes, path in seen if not writes}
    assert f"kd_steps/{stage}.py" in read_paths, "the watch saw nothing"
    known = [*description["deps"], *outputs, "params.yaml", *stage_deps.door_files()]
    undeclared = {path for path in read_paths if not below(path, known) and not path.endswith("/__init__.py")}
    assert undeclared == set(), f"add to the deps of {stage}"
    written = {lasting(path) for writes, path in opened if writes and "__pycache__" not in path}
    assert {path for path in written if not path.startswith(ALLOWED) and not below(path, outputs)} == set()


def test_a_second_run_does_nothing(finished_project, record_testsuite_property):
    started = time.monotonic()
    output = dvc(finished_project.root, "repro")
    record_testsuite_property("idle_dvc_repro_seconds", time.monotonic() - started)
    assert ran(output) == []
    assert "Data and pipelines are up to date." in dvc(finished_project.root, "status")


def test_a_new_part_trains_no_teacher(project):
    """Three pictures of a class nobody has seen: what a line adds on a Monday."""
    part = project / "data/new_parts/line/whisker"
    for kind in ("images", "labels"):
        (part / kind).mkdir(parents=True)
    for number in range(3):
        (part / f"images/whisker{number}.jpg").write_bytes(jpeg(100 + number, 128))
        (part / f"labels/whisker{number}.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (part / "data.yaml").write_text("train: images\nval: images\nnames: {0: whisker}\n")
    listed = run(project, sys.executable, "-m", "flows.cli", "classes", "add", "whisker")
    assert "data/classes/retort.csv: 6 whisker" in listed.stdout
    before, teacher = lock(project), (project / "models/teacher/weights.pt").stat()
    assert {name.rpartition(":")[2] for name in json.loads(dvc(project, "status", "--json"))} == {
        *("prepare", "validate", "few_shot", "export", "register"),  # which read the ledger or the new pictures
    }

    done = run(project, sys.executable, "-m", "dvc", "repro")
    assert ran(done.stdout) == AFTER_NEW_PARTS, done.stdout
    after = lock(project)
    untouched = {*STAGES} - {*AFTER_NEW_PARTS} | {"register"}  # which the gate makes fail, see below
    assert {name for name in STAGES if before[name] == after[name]} == untouched
    now = (project / "models/teacher/weights.pt").stat()
    assert (now.st_ino, now.st_mtime_ns) == (teacher.st_ino, teacher.st_mtime_ns)
    for target in ("onnx-fp32", "openvino-fp16"):  # INT8 may miss its parity on so young a student, and is optional
        manifest = read(project, f"models/engines/{target}/manifest.json")
        assert manifest["new_classes"] == ["tombstone", "whisker"]
        assert manifest["classes"][-2:] == ["tombstone", "whisker"]
    assert read(project, "metrics/few_shot.json")["shots"] == {"tombstone": 3, "whisker": 3}
    # No test picture shows a whisker, so nobody can say how well it is found: the gate must not wave it through.
    assert done.returncode != 0
    open_rules = [rule for rule in read(project, "metrics/gate.json")["rules"] if rule["verdict"] != "pass"]
    assert {(rule["name"], rule["verdict"]) for rule in open_rules} == {("new_class_ap50", "inconclusive")}
    assert all("'whisker' could not be measured" in rule["reason"] for rule in open_rules)


def test_a_failed_gate_registers_nothing_and_still_builds_the_dossier(project):
    shutil.copyfile(project / "report/index.html", project / ".retort/earlier.html")
    change_params(project, {"gate": {"max_latency_ratio": 1e-6}})
    assert {name.rpartition(":")[2] for name in json.loads(dvc(project, "status", "--json"))} == {"gate"}
    done = run(project, sys.executable, "-m", "dvc", "repro")
    assert done.returncode != 0
    assert ran(done.stdout) == ["gate", "report", "register"]
    assert "error: the gate failed, so no engine was registered:\n  - latency_ratio of onnx-fp32 is " in done.stdout
    gate = read(project, "metrics/gate.json")
    assert gate["passed"] is False
    assert {rule["name"] for rule in gate["rules"] if rule["verdict"] == "fail"} == {"latency_ratio"}
    assert versions(project) == {}
    receipt = read(project, ".retort/registration.json")
    assert (receipt["gate_passed"], receipt["models"]) == (False, [])
    assert "the gate failed" in receipt["problem"]
    page = (project / "report/index.html").read_text(encoding="utf-8")
    assert page != (project / ".retort/earlier.html").read_text(encoding="utf-8")
    assert "latency_ratio" in page
    assert git(project, "status", "--porcelain").split() == ["M", "params.yaml", "??", "dvc.lock", "??", "metrics/"]


def test_under_prefect_a_finished_pipeline_is_cached(finished_project):
    flow = run(finished_project.root, sys.executable, "-m", "flows.retrain")
    assert flow.returncode == 0, flow.stdout
    assert "Completed: 11 stages: 11 cached" in flow.stdout
    assert ran(flow.stdout) == []


def test_a_colleague_clones_and_pulls_and_has_nothing_to_do(project, tmp_path):
    """What is not in git is in the remote; nothing of the first one's own store is asked for or changed."""
    store, theirs = tmp_path / "remote", tmp_path / "colleague"
    commit(project, "Run the pipeline")
    dvc(project, "remote", "add", "-q", "--local", "--default", "store", str(store))
    dvc(project, "push", "-q")
    assert run(tmp_path, "git", "clone", "-q", str(project), str(theirs)).returncode == 0
    dvc(theirs, "remote", "add", "-q", "--local", "--default", "store", str(store))
    dvc(theirs, "pull", "-q")
    assert ran(dvc(theirs, "repro")) == []
    assert run(theirs, "git", "status", "--porcelain").stdout == ""
    assert not (theirs / "mlflow.db").exists()


def test_metrics_plots_and_experiments(project, tmp_path):
    commit(project, "Run the pipeline")
    shown = json.loads(dvc(project, "metrics", "show", "--json"))[""]["data"]
    assert set(shown) == {
        path for paths in outs_of(project).values() for path in paths if path.startswith("metrics/")
    } - {
        "metrics/released/retort.csv",  # no metric
    }
    assert not [path for path, told in shown.items() if "error" in told]

    dvc(project, "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text(encoding="utf-8")
    for plot in ("plots/distill.csv", "plots/precision_recall.csv", "plots/latency.csv"):
        assert plot in page
    assert "openvino-fp16" in page

    output = dvc(project, "exp", "run", "--set-param", "evaluate.operating_confidence=0.3", "--name", "calmer")
    assert ran(output) == ["evaluate", "gate", "report", "register"], "an engine has no thresholds"
    gate = read(project, "metrics/gate.json")  # which may refuse INT8: it is optional, and the student young
    passed = {target for target, verdict in gate["targets"].items() if verdict == "pass"}
    assert versions(project) == {f"retort-{target}": ["1"] for target in passed}
    assert {*gate["required_targets"]} <= passed
    changed = json.loads(dvc(project, "metrics", "diff", "--json", "HEAD"))
    assert "metrics/engines.json" in changed
    assert "metrics/alone/teacher.json" not in changed
    assert "engines.teacher.latency.total_ms.p50" in changed["metrics/engines.json"]
    (baseline,) = [entry for entry in json.loads(dvc(project, "exp", "show", "--json")) if entry["rev"] != "workspace"]
    (experiment,) = [revision for entry in baseline["experiments"] for revision in entry["revs"]]
    assert experiment["name"] == "calmer"
    told = experiment["data"]["params"]["params.yaml"]["data"]
    assert told["evaluate"]["operating_confidence"] == 0.3
