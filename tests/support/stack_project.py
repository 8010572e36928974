"""A small project that goes through a whole stack: a stage that waits for a word, and the real ``register``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from dossier_fixture import ENGINES, build_project, write_release

REPOSITORY = Path(__file__).parents[2]
STAGES = """
stages:
  count:
    cmd: python count.py
    deps: [count.py, round.txt]
    outs: [counted.txt]
  register:
    cmd: python -m kd_steps.register
    deps: [counted.txt, models/releases, metrics/gate.json]
    outs:
    - metrics/released: {cache: false, persist: true}
    meta: {retries: 12, retry_delay_s: 5}
"""
# It appends to a file that is no output: DVC would take it back, and a stage that ran twice would not be seen.
COUNT = """
import time
from pathlib import Path
from kd_steps.running import progress
from kd_steps.stage_entry import run_stage

def main():
    number = Path("round.txt").read_text()
    with Path(".retort/done").open("a") as done:
        done.write(f"begun {number}\\n")
    for step in range(6000):
        progress.tell(step, 6000, "looks")
        print("look", step, flush=True)
        if Path(f".retort/go.{number}").exists():
            break
        time.sleep(0.1)
    Path("counted.txt").write_text(number)
    with Path(".retort/done").open("a") as done:
        done.write(f"done {number}\\n")

run_stage(main)
"""


def run(root: Path, *command: str, **environment: str) -> str:
    """What a command says; it must end well."""
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def dvc(root: Path, *arguments: str, **environment: str) -> str:
    return run(root, sys.executable, "-m", "dvc", "--wait-for-lock", *arguments, **environment)


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return run(root, "git", *who, *arguments)


def make_project(root: Path) -> None:
    """The project under git and DVC, with round 0 to be done."""
    build_project(root)
    (root / "dvc.yaml").write_text(STAGES)
    (root / "count.py").write_text(COUNT)
    (root / ".retort").mkdir(exist_ok=True)
    (root / ".gitignore").write_text("/.retort\n/counted.txt\n")
    git(root, "init", "-q")
    dvc(root, "init", "-q")
    begin_round(root, 0)


def begin_round(root: Path, number: int) -> None:
    """New work: new releases, and a stage that waits for :func:`go`."""
    shutil.rmtree(root / "models/releases")
    for name in ENGINES:
        if name != "teacher":
            write_release(root, name, number)
    dvc(root, "add", "models/releases")
    (root / "round.txt").write_text(str(number))


def go(root: Path, number: int) -> None:
    (root / f".retort/go.{number}").touch()


def done(root: Path) -> list[str]:
    return (root / ".retort/done").read_text().split("\n")[:-1]
