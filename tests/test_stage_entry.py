"""How a stage starts and how it fails."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def run(body, folder, **environment):
    code = f"import os\nfrom kd_steps.stage_entry import run_stage\ndef main():\n    {body}\nrun_stage(main)\n"
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO_", "DVC_", "MLFLOW_", "RETORT_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**quiet, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("ValueError('params.yaml: gate: missing')", "params.yaml: gate: missing"),
        ("FileNotFoundError('weights.pt: no such file')", "weights.pt: no such file"),
        ("OSError(28, 'No space left on device', 'data/cache')", "[Errno 28] No space left on device: 'data/cache'"),
    ],
)
def test_a_fault_that_a_user_can_mend_is_told_plainly(tmp_path, error, message):
    done = run(f"raise {error}", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"error: {message}", "(RETORT_TRACEBACK=1 shows where it was raised)"]
    told = run(f"raise {error}", tmp_path, RETORT_TRACEBACK="1")
    assert told.returncode == 1
    assert "Traceback" in told.stderr


def test_a_full_disk_without_a_name_gets_one(tmp_path):
    done = run("raise OSError(28, 'No space left on device')", tmp_path)
    assert done.returncode == 1
    line = r"error: \[Errno 28\] No space left on device: /\S+ has \d+ MB free"
    assert re.fullmatch(line, done.stderr.splitlines()[0])


def test_what_a_stage_cost_is_noted_also_when_it_fails(tmp_path):
    run("bytearray(300_000_000)", tmp_path)
    run("raise ValueError('no')", tmp_path)
    lines = [json.loads(line) for line in (tmp_path / ".retort/stage_costs.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["peak_memory_bytes"]["process"] > 300_000_000 > lines[1]["peak_memory_bytes"]["process"]
    assert 0 <= lines[1]["seconds"] < 60


def test_a_full_disk_hides_no_error_and_fails_no_finished_stage(tmp_path):
    (tmp_path / ".retort").mkdir()
    (tmp_path / ".retort/stage_costs.jsonl").symlink_to("/dev/full")
    done = run("raise ValueError('the fault')", tmp_path)
    assert done.stderr.splitlines()[0] == "error: the fault"
    assert run("pass", tmp_path).returncode == 0


def test_a_defect_keeps_its_traceback(tmp_path):
    done = run("raise KeyError('ours')", tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_libraries_neither_phone_home_nor_install_themselves(tmp_path):
    names = ["YOLO_OFFLINE", "YOLO_AUTOINSTALL", "DVC_NO_ANALYTICS", "MLFLOW_DISABLE_TELEMETRY", "YOLO_CONFIG_DIR"]
    body = f"print([os.environ.get(n) for n in {names}])"
    settings = str(tmp_path / ".retort/ultralytics")
    assert run(body, tmp_path).stdout.strip() == str(["true", "false", "1", "true", settings])
    assert "'mine'" in run(body, tmp_path, YOLO_CONFIG_DIR="mine").stdout, "what the caller has set stays"


@pytest.mark.parametrize("stage", ["train_teacher", "cache_logits", "distill", "few_shot"])
def test_importing_a_stage_is_cheap(tmp_path, stage):
    heavy = ["ultralytics", "mlflow", "onnxruntime"]
    code = f"import sys, kd_steps.{stage}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


LOADING = """from torch.utils.data import DataLoader
    class Refusing(list):
        def __getitem__(self, index):
            raise ValueError("a.png: has other pixels;\\nremove data/cache")
    list(DataLoader(Refusing([0]), num_workers=1, multiprocessing_context="fork"))"""


def test_a_fault_that_a_loaders_worker_met_is_told_in_its_own_words(tmp_path):
    done = run(LOADING, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == ["error: a.png: has other pixels;", "remove data/cache"]
