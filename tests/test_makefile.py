"""The Makefile and the lock file: what the targets do, under which environment, with which versions."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from kd_steps.stage_entry import ENVIRONMENT

REPOSITORY = Path(__file__).parents[1]
MAKEFILE = (REPOSITORY / "Makefile").read_text()
LOCK = (REPOSITORY / "requirements.lock").read_text()
TARGETS = {"help", "setup", "demo", "test", "test-fast", "check", "format", "ui", "stack", "bench", "lock", "clean"}
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
SETUP = REPOSITORY / "infra/setup.sh"


def make(*arguments: str) -> str:
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(["make", *arguments], cwd=REPOSITORY, env=alone, capture_output=True, text=True, check=True)
    return done.stdout


def locked() -> dict[str, str]:
    """Package → its version in the lock."""
    return {name.lower().replace("_", "-"): v for name, v in re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.M)}


def test_help_lists_every_target():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)
    assert phony
    assert set(phony[1].split()) == TARGETS
    assert set(re.findall(r"^ +make ([\w-]+) ", make("help"), re.M)) == TARGETS
    assert make() == make("help")


def test_demo_runs_the_pipeline_and_tells_where_to_look():
    """`-o` leaves out the set-up, which is older or newer than the lock as the checkout fell."""
    lines = make("--dry-run", "--old-file=.venv/.installed", "--old-file=setup", "demo").splitlines()
    assert lines == ["dvc repro", "retort summary"]


@pytest.mark.parametrize(
    ("target", "commands"),
    [
        ("check", ["ruff format --check .", "ruff check .", "mypy kd_steps flows", "lint-imports"]),
        ("test", ["pytest --durations=25"]),
        ("test-fast", ['pytest -m "not slow" --durations=5']),
        ("ui", ["retort ui"]),
        ("stack", ["retort stack"]),
    ],
)
def test_targets_run_these_commands(target, commands):
    assert make("--dry-run", "--old-file=.venv/.installed", "--old-file=setup", target).splitlines() == commands


def test_environment_is_the_stages_own():
    """Every target runs in the environment that a stage sets for itself where it is started by hand."""
    printed = "include Makefile\nprint-environment:\n\t@env\n"
    done = subprocess.run(
        ["make", "--no-print-directory", "-f", "-", "print-environment"],
        **{"cwd": REPOSITORY, "input": printed, "capture_output": True, "text": True, "check": True},
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: told.get(name) for name in ENVIRONMENT} == ENVIRONMENT
    assert told["YOLO_CONFIG_DIR"] == str(REPOSITORY / ".retort/ultralytics")
    assert told["PATH"].split(":")[0] == str(REPOSITORY / ".venv/bin")
    assert "PYTHONDONTWRITEBYTECODE" not in told  # stages would compile their libraries at each start


def test_lock_names_no_index_and_pins_everything_with_hashes():
    assert "://" not in LOCK
    assert "--index" not in LOCK
    blocks = [block for block in re.split(r"(?m)^(?=[A-Za-z0-9])", LOCK) if not block.startswith("#") and block.strip()]
    assert len(blocks) == len(locked()) > 100
    for block in blocks:
        assert re.match(r"[\w.-]+==\S+ ?(;.*)?", block), block[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:80]


def test_lock_agrees_with_what_pyproject_asks_for():
    asked = [Requirement(text) for group in PROJECT["optional-dependencies"].values() for text in group]
    asked = [requirement for requirement in asked if requirement.name != "retort"]
    versions = locked()
    for requirement in asked:
        name = requirement.name.lower().replace("_", "-")
        assert name in versions, f"{name}: not in requirements.lock; run `make lock`"
        assert requirement.specifier.contains(versions[name], prereleases=True), f"{requirement}: lock {versions[name]}"
    assert sum(str(requirement.specifier).startswith("==") for requirement in asked) >= 9


def test_every_python_that_is_allowed_gets_the_same_versions():
    """One version a package, and none that is asked for is left out for a Python: markers are for what others need."""
    wanted = SpecifierSet(PROJECT["requires-python"])
    minors = [minor for minor in range(20) if wanted.contains(f"3.{minor}.9")]
    assert minors == [11, 12, 13, 14]
    names = re.findall(r"^([\w.-]+)==", LOCK, re.M)
    assert len(names) == len(set(names))
    asked = {Requirement(text).name.lower() for group in PROJECT["optional-dependencies"].values() for text in group}
    for name, marker in re.findall(r"^([\w.-]+)==\S+ ; (.*?) \\\\$", LOCK, re.M):
        assert name.lower() not in asked, f"{name}: only where {marker}"
    oldest, newest = f"3.{minors[0]}", f"3.{minors[-1]}"
    assert f"--universal --python-version {oldest} " in MAKEFILE
    assert f"Python {oldest} to {newest}" in SETUP.read_text()


def test_another_python_is_refused_with_its_version_and_the_mend(tmp_path):
    python = tmp_path / "python3.10"
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.13 || exit 1\n')
    python.chmod(0o755)
    done = subprocess.run(["bash", SETUP, python, tmp_path / "venv"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Python 3.10.13" in done.stderr
    assert "make PYTHON=python3.12" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_environment_that_was_moved_along_is_mended_by_the_next_command(tmp_path):
    """A small project with one locked package that has a command; the folder is renamed, to a name with a blank."""
    (block,) = re.findall(r"(?ms)^pygments==.*?(?=^[a-z])", LOCK)
    place = tmp_path / "before"
    (place / "infra").mkdir(parents=True)
    (place / "mini").mkdir()
    (place / "mini/__init__.py").touch()
    (place / "pyproject.toml").write_text(
        '[project]\nname = "mini"\nversion = "1"\n[tool.setuptools]\npackages = ["mini"]\n'
    )
    (place / "requirements.lock").write_text(block)
    (place / "Makefile").write_text(MAKEFILE)
    shutil.copy(SETUP, place / "infra")

    def use(folder: Path) -> list[str]:
        alone = {
            name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VIRTUAL"))
        }
        alone.pop("PYTHONPATH", None)
        command = ["make", "-s", "setup", f"PYTHON={sys.executable}"]
        said = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=True).stdout
        subprocess.run([folder / ".venv/bin/pygmentize", "-V"], capture_output=True, check=True)
        where = [folder / ".venv/bin/python", "-c", "import mini; print(mini.__file__)"]
        found = subprocess.run(where, cwd="/", capture_output=True, text=True, check=True).stdout
        assert Path(found.strip()) == folder / "mini/__init__.py"
        return said.splitlines()

    assert len(use(place)) == 1, "it was set up"
    assert use(place) == []
    moved = place.rename(tmp_path / "after it")
    assert len(use(moved)) == 1
    assert use(moved) == []


def test_what_is_installed_is_what_the_lock_says():
    """The tests speak for the versions of the lock only if they ran on them."""
    from importlib.metadata import PackageNotFoundError, version

    with pytest.raises(PackageNotFoundError):
        version("opencv-python")  # it has the same files as the headless build, and needs libGL
    for name in ("torch", "ultralytics", "dvc", "prefect", "mlflow", "great-expectations", "onnxruntime", "openvino"):
        assert version(name).split("+")[0] == locked()[name].split("+")[0], sys.executable
