"""The flow on a real DVC project of small stages: order, cache, failures, retries and kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from verdict_documents import FAILED, gate_json, receipt_json

from flows.dag import is_up_to_date, stages_in_order, why_out_of_date
from flows.dvc_process import InfrastructureError, StageFailedError, reproduce
from flows.verdict import markdown

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
STAGES = """
stages:
  register:
    cmd: python register.py
    deps: [register.py, metrics/gate.json]
  gate:
    cmd: mkdir -p metrics && cp verdict.json metrics/gate.json
    deps: [verdict.json, data.txt]
    metrics:
    - metrics/gate.json: {cache: false}
  prepare:
    cmd: echo preparing && cp raw.txt data.txt
    deps: [raw.txt]
    outs: [data.txt]
    meta: {retries: 1, retry_delay_s: 0}
"""
REGISTER = """
import json, sys
gate = json.load(open("metrics/gate.json"))
if not gate["passed"]:
    print("error: the gate failed, so no engine was registered:\\n  - map_ratio of onnx-fp32 is 0.9", file=sys.stderr)
    print("(RETORT_TRACEBACK=1 shows where it was raised)", file=sys.stderr)
    sys.exit(1)
json.dump(json.load(open("receipt.json")), open("registration.json", "w"))
"""


def make_project(root: Path, stages: str = STAGES) -> Path:
    root.mkdir(exist_ok=True)
    (root / "raw.txt").write_text("board\n")
    (root / "register.py").write_text(REGISTER)
    (root / "verdict.json").write_text(json.dumps(gate_json()))
    (root / "receipt.json").write_text(json.dumps(receipt_json()))
    (root / "dvc.yaml").write_text(stages)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=root, check=True)
    return root


@pytest.fixture(scope="session")
def project(tmp_path_factory, _no_phone_home):
    return make_project(tmp_path_factory.mktemp("toy"))


def retrain(root: Path, **more):
    from flows.retrain import retrain as flow

    return flow(root=root, return_state=True, **more)


def task_states(flow_state) -> dict[str, tuple[str, int]]:
    """Task name → (state's name, tries), as the server has them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    deadline = time.monotonic() + 20  # the server takes up a task's last state a little after the flow has ended
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id={"any_": [flow_state.state_details.flow_run_id]})
        runs = client.read_task_runs(flow_run_filter=chosen)
        while any(run.state_name == "Running" for run in runs) and time.monotonic() < deadline:
            time.sleep(0.1)
            runs = client.read_task_runs(flow_run_filter=chosen)
    return {run.name: (run.state_name, run.run_count) for run in runs}


def artifacts() -> list[str]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return [str(a.data) for a in client.read_artifacts()]


def test_stages_come_after_what_they_need(project):
    assert [stage.name for stage in stages_in_order(project)] == ["prepare", "gate", "register"]
    assert [stage.name for stage in stages_in_order(project, "gate")] == ["prepare", "gate"]
    assert (stages_in_order(project)[0].retries, stages_in_order(project)[1].retries) == (1, 2)
    with pytest.raises(ValueError, match="no stage 'gaet'; there are: register, gate, prepare"):
        stages_in_order(project, "gaet")


CHAIN = """
stages:
  teacher:
    cmd: mkdir -p models && echo t > models/teacher
    outs: [models/teacher]
  assistant:
    foreach: ${chain}
    do:
      cmd: mkdir -p models/assistants && cp models/${item.taught_by} models/assistants/${key}
      deps: ["models/${item.taught_by}"]
      outs: ["models/assistants/${key}"]
  student:
    cmd: cp models/${teacher} student
    deps: ["models/${teacher}"]
    outs: [student]
"""


def test_stages_that_are_there_only_when_asked_for_have_names_like_any_other(tmp_path):
    root = make_project(tmp_path / "chain", CHAIN)
    (root / "params.yaml").write_text("chain: {}\nteacher: teacher\n")
    assert [stage.name for stage in stages_in_order(root)] == ["teacher", "student"]
    (root / "params.yaml").write_text(
        "chain: {s: {taught_by: assistants/m}, m: {taught_by: teacher}}\nteacher: assistants/s\n"
    )
    assert [stage.name for stage in stages_in_order(root)] == ["teacher", "assistant@m", "assistant@s", "student"]
    assert [stage.name for stage in stages_in_order(root, "assistant@m")] == ["teacher", "assistant@m"]
    assert set(why_out_of_date(root)) == {"teacher", "assistant@m", "assistant@s", "student"}
    for name in ("teacher", "assistant@m"):
        assert not is_up_to_date(root, name)
        reproduce(root, name, False, None, lambda line: None)
        assert is_up_to_date(root, name)
    assert set(why_out_of_date(root)) == {"assistant@s", "student"}


def test_the_flow_runs_then_shows_cached_then_fails_with_the_rule(project, prefect_server):
    first = retrain(project)
    assert first.is_completed(), first.message
    assert first.message == "3 stages: 3 ran"
    assert {name: state for name, (state, _) in task_states(first).items()} == dict.fromkeys(
        ("prepare", "gate", "register"), "Completed"
    )
    assert is_up_to_date(project, "gate")

    second = retrain(project)
    assert {name: state for name, (state, _) in task_states(second).items()} == dict.fromkeys(
        ("prepare", "gate", "register"), "Cached"
    )
    assert retrain(project, target="prepare", force=True).message == "1 stages: 1 ran"

    (project / "verdict.json").write_text(json.dumps(gate_json(False, (FAILED,))))
    third = retrain(project)
    assert third.is_failed()
    assert "map_ratio of onnx-fp32 is 0.9" in third.message
    assert task_states(third)["register"] == ("Failed", 1)  # not tried again: the stage's own failure
    assert any("Gate: not passed" in text and "map_ratio" in text for text in artifacts())
    only_gate = retrain(project, target="gate")
    assert only_gate.is_failed()
    assert "map_ratio of onnx-fp32: fail: 0.9 is below 0.95" in only_gate.message


def test_a_page_shows_what_its_own_run_came_to(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/gate.json").write_text(json.dumps(gate_json()))
    (tmp_path / ".retort").mkdir()
    (tmp_path / ".retort/registration.json").write_text(json.dumps(receipt_json(versions=("1",))))
    whole = markdown(tmp_path, {"prepare": "ran", "gate": "ran", "register": "cached"})
    assert "# Gate: passed" in whole
    assert "Registered: retort-onnx-fp32 version 1" in whole
    judged = markdown(tmp_path, {"prepare": "ran", "gate": "ran"})
    assert "# Gate: passed" in judged
    assert "Registered" not in judged
    assert "# Gate" not in markdown(tmp_path, {"prepare": "cached", "distill": "failed"})


def test_a_fault_of_the_machine_is_tried_again_and_others_are_not(tmp_path, prefect_server):
    stages = """
stages:
  flaky:
    cmd: test -f seen || { touch seen; echo 'OSError [Errno 5] Input/output error'; exit 1; }
    meta: {retries: 1, retry_delay_s: 0}
"""
    state = retrain(make_project(tmp_path / "toy", stages))
    assert state.is_completed(), state.message
    assert task_states(state)["flaky"] == ("Completed", 2)


def test_lines_and_failures_of_a_stage(tmp_path):
    stages = """
stages:
  own:
    cmd: python own.py
  slow:
    cmd: sleep 60
"""
    root, lines = make_project(tmp_path / "toy", stages), []
    fault = "error: labels/a.txt, line 3: four numbers"
    (root / "own.py").write_text(f"import sys\nprint('1%', '2%', '3%', 'done', sep='\\r')\nsys.exit({fault!r})\n")
    with pytest.raises(StageFailedError, match=r"^own: labels/a\.txt, line 3: four numbers$"):
        reproduce(root, "own", False, None, lines.append)
    assert "done" in lines
    assert not {"2%", "3%"} & set(lines)
    start = time.monotonic()
    with pytest.raises(InfrastructureError, match="longer than its timeout_s of 3 s"):
        reproduce(root, "slow", False, 3, lines.append)
    assert time.monotonic() - start < 30
    assert not [p for p in psutil.Process().children(recursive=True) if "sleep" in p.name()]


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_killed_stage_is_a_fault_of_the_machine_under_any_shell(tmp_path, monkeypatch, shell):
    """dash waits for the command and exits with 137; bash gives way to it, and the status is the signal's."""
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    monkeypatch.setenv("SHELL", shell)
    stages = """
stages:
  killed:
    cmd: python -c 'import os; os.kill(os.getpid(), 9)'
"""
    with pytest.raises(InfrastructureError, match=r"exited with (-9|137)"):
        reproduce(make_project(tmp_path / "toy", stages), "killed", False, None, print)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ending_the_run_ends_the_stage(tmp_path, number):
    """Only our process is told to end, as by a supervisor; the stage must not go on writing."""
    stage = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nwhile True: time.sleep(0.1)\n"
    root = make_project(tmp_path / "toy", "stages:\n  train:\n    cmd: python train.py\n    deps: [train.py]\n")
    (root / "train.py").write_text(stage)
    code = "import sys; from pathlib import Path; from flows.dvc_process import reproduce; import signal\n"
    code += "signal.signal(signal.SIGTERM, lambda n, f: sys.exit(143))\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "reproduce(Path('.'), 'train', False, None, print)"
    run = subprocess.Popen([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    deadline = time.monotonic() + 40
    while not ((root / "pid").exists() and (root / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    stage_pid = int((root / "pid").read_text())
    run.send_signal(number)
    assert run.wait(timeout=40) != 0
    assert not psutil.pid_exists(stage_pid)
