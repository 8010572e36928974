from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

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


def engine(limits: dict[str, Any], map_ratio: float | None) -> dict[str, Any]:
    """An engine that keeps every limit by far but, perhaps, that of accuracy."""
    good = Interval(1.0, 1.0, 1.0, 50).to_dict()
    return {
        "confidence_level": limits["confidence_level"],
        "parameters": 1,
        "map_ratio": Interval(map_ratio, map_ratio, map_ratio, 50).to_dict(),
        "per_class": {"bridge": {"is_new": False}},
        "per_class_ap50_interval": {"bridge": good},
        "false_alarms_per_picture": Interval(0.0, 0.0, 0.0, 50).to_dict(),
        "latency": {"ratio_to_teacher": Interval(0.1, 0.1, 0.1, 50).to_dict()},
        "latency_control": {"ok": True},
    }


def write_engines(project: Path, map_ratio: float | None) -> list[str]:
    limits = yaml.safe_load((project / "params.yaml").read_text())["gate"]
    engines = {target: engine(limits, map_ratio) for target in limits["required_targets"]}
    (project / "metrics/engines.json").write_text(json.dumps({"teacher": {"parameters": 100}, **engines}))
    return list(engines)


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
