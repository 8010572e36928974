from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dossier_fixture import engines_metrics

from kd_steps.core.evaluation.intervals import Interval

ROOT = Path(__file__).resolve().parents[1]


def run_gate(project: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "40"}
    return subprocess.run(
        [sys.executable, "-m", "kd_steps.gate"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "metrics").mkdir()
    return tmp_path


def write_engines(project: Path, map_ratio: float | None) -> list[str]:
    """Engines that keep every limit by far but, perhaps, that of accuracy."""
    required = yaml.safe_load((project / "params.yaml").read_text())["gate"]["required_targets"]
    report = engines_metrics()
    ratio = Interval(map_ratio, map_ratio, map_ratio, 50).to_dict()
    engines = {target: report["engines"][target] | {"map_ratio": ratio} for target in required}
    report["engines"] = {"teacher": report["engines"]["teacher"], **engines}
    (project / "metrics/engines.json").write_text(json.dumps(report))
    return required


@pytest.mark.parametrize(
    ("map_ratio", "passed", "said"),
    [(1.0, True, "Passed"), (0.1, False, "map_ratio fails"), (None, False, "map_ratio is inconclusive")],
)
def test_the_verdict_is_written_and_told_and_never_an_error(
    project: Path, map_ratio: float | None, passed: bool, said: str
) -> None:
    targets = write_engines(project, map_ratio)
    done = run_gate(project)
    assert done.returncode == 0, done.stderr
    verdict = json.loads((project / "metrics/gate.json").read_text())
    assert verdict["passed"] is passed
    assert verdict["targets"] == dict.fromkeys(targets, "pass" if passed else "fail")
    assert said in done.stdout
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines() if "│" in line]
    assert [(row[1], row[2], row[3]) for row in rows] == [
        (rule["target"], rule["name"], rule["verdict"]) for rule in verdict["rules"]
    ]


def test_missing_measurements_name_the_file_and_the_mend(project: Path) -> None:
    done = run_gate(project)
    assert done.returncode == 1
    assert "metrics/engines.json: no such file; `dvc repro` makes it" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_judged_is_named_by_its_release(project: Path) -> None:
    targets = write_engines(project, 1.0)
    done = run_gate(project)
    verdict = json.loads((project / "metrics/gate.json").read_text())
    engines = engines_metrics()["engines"]
    assert verdict["releases"] == {target: engines[target]["release_digest"] for target in targets}
    for target, digest in verdict["releases"].items():
        assert f"{target}: release {digest[:12]}" in done.stdout


def test_a_required_target_that_export_left_out_is_told_with_its_reason(project: Path) -> None:
    gone, *_ = write_engines(project, 1.0)
    path = project / "metrics/engines.json"
    report = json.loads(path.read_text())
    del report["engines"][gone]
    path.write_text(json.dumps(report | {"left_out": {gone: "its outputs differ from torch by 3"}}))
    done = run_gate(project)
    assert json.loads((project / "metrics/gate.json").read_text())["targets"][gone] == "fail"
    assert "export left it out: its outputs differ from torch by 3" in done.stdout


def test_a_report_of_another_version_is_refused(project: Path) -> None:
    write_engines(project, 1.0)
    path = project / "metrics/engines.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    done = run_gate(project)
    assert done.returncode == 1
    assert "metrics/engines.json: written as schema 99, this release reads schema 1 of its EngineReport" in done.stderr
