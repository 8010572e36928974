"""dvc.yaml says the truth: names, commands, dependencies, parameters and outputs agree with the code."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import stage_deps
import yaml
from tiny_project import outs_of

from kd_steps.params import Params

REPOSITORY = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
PARAMETERS = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
SHARED_SECTIONS = {"seed", "preprocessing", "augmentation", "compute"}


def stage_files() -> set[str]:
    """The modules of kd_steps that start as a stage."""
    return {p.stem for p in (REPOSITORY / "kd_steps").glob("*.py") if "\n    run_stage(main)\n" in p.read_text()}


def test_stages_files_and_sections_have_the_same_names():
    assert set(PIPELINE) == stage_files() == set(PARAMETERS) - SHARED_SECTIONS
    assert {field.alias or name for name, field in Params.model_fields.items()} == set(PARAMETERS)


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_stage_runs_its_own_module_and_says_what_it_does(stage):
    assert PIPELINE[stage]["cmd"] == f"python -m kd_steps.{stage}"
    assert PIPELINE[stage]["desc"].endswith(".")


@pytest.mark.parametrize("stage", PIPELINE)
def test_python_dependencies_are_what_the_stage_imports(stage):
    listed = [dep for dep in PIPELINE[stage]["deps"] if dep.endswith(".py")]
    assert listed == stage_deps.imported_files(stage)
    assert f"kd_steps/{stage}.py" in listed


def test_writing_the_dependencies_anew_changes_nothing(tmp_path):
    copy = Path(shutil.copyfile(REPOSITORY / "dvc.yaml", tmp_path / "dvc.yaml"))
    stage_deps.write(copy)
    assert copy.read_text() == (REPOSITORY / "dvc.yaml").read_text(), "run `make deps`"


@pytest.mark.parametrize("stage", PIPELINE)
def test_files_that_are_no_python_come_from_the_repository_or_an_earlier_stage(stage):
    outputs = {path for paths in outs_of(REPOSITORY).values() for path in paths}
    own = set(outs_of(REPOSITORY)[stage])
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for dep in PIPELINE[stage]["deps"]:
        assert dep not in own
        made = any(dep == out or dep.startswith(f"{out}/") for out in outputs)
        assert made or re.search(rf"^{re.escape(dep)}(/|$)", tracked, re.M), f"{stage}: nobody makes {dep}"


def test_every_section_and_key_listed_is_one_of_params_yaml_and_all_are_used():
    used = set()
    for stage, description in PIPELINE.items():
        assert any(key == stage or key.startswith(f"{stage}.") for key in description["params"]), stage
        for key in description["params"]:
            values = PARAMETERS
            for part in key.split("."):
                assert part in values, f"{stage}: params.yaml has no {key}"
                values = values[part]
            used.add(key.split(".")[0])
    assert used == set(PARAMETERS)


def test_every_output_is_ignored_by_git_and_declared_once():
    """By hand: where a later stage fails, DVC takes back the lines that it wrote into .gitignore."""
    outputs = [path for paths in outs_of(REPOSITORY).values() for path in paths]
    assert len(outputs) == len(set(outputs))
    told = subprocess.run(
        [
            "git",
            "check-ignore",
            "--no-index",
            *(f"{path}/x" if "." not in Path(path).name else path for path in outputs),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    assert len(told) == len(outputs), f"not ignored: {set(outputs) - {line.removesuffix('/x') for line in told}}"
    kept = subprocess.run(
        ["git", "check-ignore", "--no-index", "data/new_parts/line/part/data.yaml", "data/raw/a.jpg"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert kept.stdout == "", "what belongs to the user must not be ignored"


def test_long_stages_keep_their_outputs_across_a_kill():
    """Without `persist`, DVC removes a half-finished output before the stage can go on with it."""
    for stage in ("train_teacher", "cache_logits", "distill", "few_shot", "evaluate"):
        (folder,) = PIPELINE[stage]["outs"]
        assert next(iter(folder.values())) == {"persist": True}, stage
