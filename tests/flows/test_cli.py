import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from dossier_fixture import build_project, write
from params_file import written
from typer import Exit
from verdict_documents import gate_json, receipt_json
from yolo_folder import make_yolo

from flows.cli import require_ledger
from flows.dag import is_up_to_date
from flows.services import free_port
from kd_steps.running.hold import held
from kd_steps.running.progress import FOLDER, tell

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


def retort(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "160"}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=60)


REGISTER = "  register:\n    cmd: echo\n    deps: [b]\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  prepare:\n    cmd: cp a b\n    deps: [a]\n    outs: [b]\n" + REGISTER
    )
    (tmp_path / "a").write_text("a")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    return tmp_path


def test_status_says_what_is_out_of_date_and_why(project):
    said = retort(project, "status").stdout
    assert re.search(r"prepare.*out of date.*", said)
    assert "not given a verdict" in said


def test_status_while_a_stage_runs_says_so(project):
    """As DVC marks the outputs that a running stage writes; the process is this one."""
    lock = {"write": {str(project / "b"): {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}}
    (project / ".dvc/tmp").mkdir(exist_ok=True)
    (project / ".dvc/tmp/rwlock").write_text(json.dumps(lock))
    done = retort(project, "status")
    assert done.returncode == 1
    assert "a stage is running: " in done.stderr
    assert "is busy" in done.stderr
    assert "Traceback" not in done.stderr
    assert is_up_to_date(project, "prepare") is False, "DVC is to wait for it, and to say"


BROKEN = {
    "tab": (
        lambda text: text.replace("  imgsz_px", "\timgsz_px").encode(),
        r"params\.yaml, line \d+, column 1",
    ),
    "twice": (lambda text: f"{text}\ngate:\n  required_targets: []\n".encode(), r"params\.yaml, line \d+.*second time"),
    "latin-1": (lambda text: text.replace("Retort dossier", "Pr\xfcfbericht").encode("latin-1", "replace"), "UTF-8"),
    "utf-16": (lambda text: text.encode("utf-16"), r"params\.yaml, line 1: not text in UTF-8"),
    "torn": (lambda text: text[:5000].encode(), r"params\.yaml: .*missing"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("command", ["status", "run"])
def test_a_broken_params_file_is_one_plain_message(project, kind, command):
    broken, told = BROKEN[kind]
    (project / "params.yaml").write_bytes(broken((REPOSITORY / "params.yaml").read_text(encoding="utf-8")))
    done = retort(project, command)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert re.search(told, done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("damage", ["torn lock", "torn dvc.yaml", "no DVC", "no git"])
def test_a_damaged_project_is_told_plainly(project, damage):
    if damage == "torn lock":
        (project / "dvc.lock").write_text("schema: '2.0'\nstages: {prepare: [cm")
    elif damage == "torn dvc.yaml":
        (project / "dvc.yaml").write_text("stages:\n  prepare: {cmd: [")
    elif damage == "no DVC":
        (project / ".dvc").rename(project / "away")
    else:
        (project / ".dvc/config").write_text("")  # of a folder under git, which is not there
    done = retort(project, "status")
    assert done.returncode == 1
    assert done.stderr.startswith("error: DVC cannot read this project: ")
    assert "git checkout dvc.yaml dvc.lock" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_tells_how_far_a_running_stage_is(project):
    folder = project / FOLDER
    with held(project, "train_teacher"):
        tell(0, 17, "epochs")
        end_of_first = time.monotonic() + 1.1
        while time.monotonic() < end_of_first:
            time.sleep(0.1)
        tell(3, 17, "epochs")
        said = retort(project, "status")
    assert said.returncode == 0, said.stderr
    assert re.search(
        r"running: train_teacher: 3 of 17 epochs, about \d+ s left; by \S+ on \S+, process \d+", said.stdout
    )
    assert f"process {os.getpid()}" in said.stdout
    assert not list(folder.glob("*.json"))
    assert "running:" not in retort(project, "status").stdout


@pytest.mark.parametrize("passed", [True, False])
def test_summary_prints_the_gate_the_engines_and_where_to_look(project, passed):
    build_project(project, passed=passed)
    write(project / ".retort/registration.json", receipt_json(versions=("3",)))
    done = retort(project, "summary")
    assert done.returncode == 0, done.stderr
    assert ("Gate: passed" in done.stdout) is passed
    assert ("retort-onnx-fp32 version 3 (release dddddddddddd)" in done.stdout) is passed
    assert ("Registered engines of an earlier run" in done.stdout) is passed, "register has not run on these results"
    assert (project / "report/index.html").as_uri() in done.stdout.replace("\n", "")
    assert "make ui" in done.stdout
    assert "map_ratio" in done.stdout


def test_summary_tells_of_a_failure_and_takes_a_receipt_of_an_older_release(project):
    build_project(project)
    gate = json.loads((project / "metrics/gate.json").read_text())
    receipt = receipt_json(versions=("3",))
    receipt["models"][0]["release_digest"] = gate["releases"]["onnx-fp32"]
    older = {key: value for key, value in receipt.items() if key != "problem"} | {"schema": 1}
    write(project / "metrics/registration.json", older)
    said = retort(project, "summary").stdout
    assert "retort-onnx-fp32 version 3" in said
    assert "of an earlier run" not in said, "these are the releases that the gate judged"
    write(project / ".retort/registration.json", receipt | {"problem": "MLflow at x cannot be used", "models": []})
    said = retort(project, "summary").stdout
    assert "No engine is registered." in said
    assert "The last `register` failed: MLflow at x cannot be used" in said


def test_status_of_a_registry_that_does_not_answer_says_so_in_a_line(project, monkeypatch):
    build_project(project)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # and never answers
        port = silent.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://line:secret@127.0.0.1:{port}")
        done = retort(project, "status")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Registry: ")]
    assert f"http://127.0.0.1:{port}" in line or "did not answer" in line
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_verdict_of_another_version_is_told_plainly(project):
    write(project / "metrics/gate.json", gate_json() | {"schema": 7})
    done = retort(project, "summary")
    assert done.returncode == 1
    assert "metrics/gate.json: written as schema 7, this release reads schema 1 of its GateVerdict" in done.stderr
    assert "`dvc repro` makes it again" in done.stderr


def test_the_first_run_of_a_product_lists_the_classes_of_its_source(tmp_path, monkeypatch, capfd):
    make_yolo(tmp_path / "source")
    source = {"prepare.source.kind": "yolo", "prepare.source.yolo.path": str(tmp_path / "source")}
    written(tmp_path, {"product": "bracket", **source})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    require_ledger()
    assert capfd.readouterr().out.startswith("data/classes/bracket.csv: 0 scratch, 1 dent; commit the file")
    require_ledger()
    assert capfd.readouterr().out == "", "there is one now"
    (tmp_path / "params.yaml").unlink()
    with pytest.raises(Exit):
        require_ledger()
    assert "error: params.yaml: no such file" in capfd.readouterr().err


def test_outside_of_a_project_the_mend_is_said(tmp_path):
    done = retort(tmp_path, "status")
    assert done.returncode == 1
    assert "no dvc.yaml here" in done.stderr


def test_a_busy_port_gives_another():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port


def test_services_answer_and_end_together(tmp_path):
    """The real supervisor with two small real servers; the pages of MLflow and Prefect take too long for each run."""
    code = (
        "import sys; from pathlib import Path; from flows.services import Service, free_port, serve\n"
        "def s(n):\n"
        "  p = free_port(0); u = f'http://127.0.0.1:{p}'\n"
        "  return Service(n, u, u, [sys.executable, '-m', 'http.server', str(p), '--bind', '127.0.0.1'])\n"
        "sys.exit(serve(Path('.'), [s('One'), s('Two')], []))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    pages = [process.stdout.readline().split(": ")[1].strip() for _ in range(2)]
    for page in pages:
        assert urllib.request.urlopen(page, timeout=5).status == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    for page in pages:
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(page, timeout=5)
