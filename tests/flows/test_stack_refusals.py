"""What keeps a stack from starting is one plain message with the mend; real programs, none of them ours to patch."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_stack import NEEDS_POSTGRES, open_folder

from flows.services import free_port
from flows.stack import place, supervisor
from flows.stack.place import StackError
from flows.stack.postgres import ask, part_of, postgres_of

pytestmark = [pytest.mark.slow, NEEDS_POSTGRES]

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def root():
    with open_folder() as folder:
        (folder / "dvc.yaml").write_text("stages: {}\n")
        yield folder


def stack(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "stack", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def told(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


def test_a_port_that_was_asked_for_and_is_taken(root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = told(stack(root, "--port", f"mlflow={port}"))
    assert f"127.0.0.1:{port} is taken by process {os.getpid()} (" in said
    assert "leave out `--port mlflow=" in said


def test_ports_that_are_only_usual_are_exchanged_and_remembered(root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (root / "ports.json").write_text(json.dumps({"s3": port}))
        with place.ports(root, {}) as chosen:
            assert chosen["s3"] != port
            assert len(set(chosen.values())) == len(place.WANTED_PORTS)
    with place.ports(root, {}) as again:
        assert again == chosen


def test_two_stacks_that_start_at_the_same_moment_take_different_ports(root):
    """Neither has opened any yet, so that all look free."""
    (root / "other").mkdir()
    with place.ports(root, {}) as first, place.ports(root / "other", {}) as second:
        assert not set(first.values()) & set(second.values())


@pytest.mark.parametrize("words", ["mlflow", "mlflow=x", "web=1"])
def test_a_port_that_makes_no_sense(root, words):
    said = told(stack(root, "--port", words))
    assert ("NAME=NUMBER" in said) or ("there are: postgres, mlflow" in said)


def test_data_of_another_major_version(root):
    data = root / ".retort/stack/postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    (data.parent / "secrets.json").write_text("{}")
    (data.parent / "secrets.json").chmod(0o600)
    said = told(stack(root))
    assert f"{data}: the data of PostgreSQL 9" in said
    assert "install postgresql-9" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_a_folder_that_postgres_cannot_pass(root):
    (root / "closed").mkdir(mode=0o700)
    (root / "closed/dvc.yaml").write_text("stages: {}\n")
    said = told(stack(root / "closed"))
    assert f"{root / 'closed'}: user " in said
    assert f"chmod o+x {root / 'closed'}" in said


def test_a_program_that_is_missing_is_told_with_its_package(root):
    bare = root / "bin"
    bare.mkdir()
    code = (
        "import sys\nfrom flows.stack.programs import program\n"
        "try:\n    program('surely-not-there', 'its-package')\nexcept ValueError as error:\n    sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "surely-not-there is not installed; on Debian: `apt-get install its-package`"


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("{", 0o600, "not JSON"),
        ("[]", 0o644, "others may read"),
    ],
)
def test_a_file_of_passwords_that_cannot_be_used(root, text, mode, said):
    path = root / "secrets.json"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(StackError, match=f"secrets.json: {said}"):
        place.passwords(root)


def test_passwords_that_are_gone_are_not_drawn_anew_over_data(root):
    (root / "postgres").mkdir()
    with pytest.raises(StackError, match=r"secrets\.json: gone"):
        place.passwords(root)


def test_a_wrong_password_names_the_file(root):
    """The real server, started with its own word, and asked with that of a file that was exchanged."""
    folder = root / ".retort/stack"
    folder.mkdir(parents=True)
    port = free_port(0)
    server = postgres_of(folder, port, place.passwords(folder)["postgres"])
    running = supervisor.bring_up([part_of(server)], root, folder / "logs", print)
    try:
        assert ask(server, "mlflow", "SELECT 1") == "1\n"
        (folder / "secrets.json").unlink()
        with pytest.raises(StackError, match="put a copy of it back"):
            place.passwords(folder)
        other = postgres_of(folder, port, "0" * 32)
        with pytest.raises(StackError, match=r"password authentication failed(.|\n)*secrets\.json"):
            ask(other, "mlflow", "SELECT 1")
    finally:
        supervisor.end(running, print)
    assert not (server.data / "postmaster.pid").exists(), "it ended in peace"


def part(*command: str, answers: bool = True) -> supervisor.Part:
    return supervisor.Part(name="Echo", command=command, answers=lambda: answers)


def test_a_part_that_never_answers_is_given_up_with_its_last_words(tmp_path):
    code = "import sys; sys.exit('no such table')"
    with pytest.raises(StackError, match=r"Echo does not start; see .*echo\.log.*\n.*no such table"):
        supervisor.bring_up([part(sys.executable, "-c", code, answers=False)], tmp_path, tmp_path, print)


def test_pauses_grow_while_a_part_dies(tmp_path):
    said: list[str] = []
    (one,) = supervisor.bring_up([part("sleep", "600")], tmp_path, tmp_path, said.append)
    try:
        for pause_s in (1, 2, 4):
            one.process.send_signal(signal.SIGKILL)
            one.process.wait()
            supervisor.tend(one, tmp_path, said.append)
            assert said[-1].startswith(f"Echo ended by SIGKILL; it is started again in {pause_s} s")
            while not one.ready:
                supervisor.tend(one, tmp_path, said.append)
                time.sleep(0.1)
            assert said[-1] == "Echo answers again"
    finally:
        supervisor.end([one], said.append)
    assert said[-1] == "ending Echo"
