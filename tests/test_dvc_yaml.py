"""dvc.yaml says the truth: names, commands, dependencies, parameters and outputs agree with the code."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import stage_deps
import yaml
from tiny_project import outs_of, stages_of

from kd_steps.params import Params
from kd_steps.params.training import Training

REPOSITORY = Path(__file__).parents[1]
PARAMETERS = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
# With what makes the stages appear that are there only when asked for.
ASKED = {
    **PARAMETERS,
    "assistant": {
        "chain": {
            "m": {"taught_by": "teacher", "model": "yolo11m.yaml", "epochs": 2},
            "s": {"taught_by": "assistants/m", "model": "yolo11s.yaml", "epochs": 2},
        }
    },
    "plain_student": {"seeds": [0, 1]},
    "distill": {**PARAMETERS["distill"], "teacher": "assistants/s"},
}
PIPELINE = stages_of(REPOSITORY, ASKED)
OUTPUTS = outs_of(REPOSITORY, ASKED)
SHARED_SECTIONS = {"product", "seed", "preprocessing", "augmentation", "compute"}


def stage_files() -> set[str]:
    """The modules of kd_steps that start as a stage."""
    return {p.stem for p in (REPOSITORY / "kd_steps").glob("*.py") if "\n    run_stage(main)\n" in p.read_text()}


def test_stages_files_and_sections_have_the_same_names():
    assert {stage.partition("@")[0] for stage in PIPELINE} == stage_files() == set(PARAMETERS) - SHARED_SECTIONS
    assert {field.alias or name for name, field in Params.model_fields.items()} == set(PARAMETERS)


def lines_of_code(path: Path) -> int:
    """Lines that hold something other than comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    told = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return sum(bool(line) and not line.startswith("#") and number not in told for number, line in lines)


@pytest.mark.parametrize("stage", sorted(stage_files()))
def test_a_stage_fits_a_page(stage):
    assert lines_of_code(REPOSITORY / f"kd_steps/{stage}.py") <= 80


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_stage_runs_its_own_module_and_says_what_it_does(stage):
    assert PIPELINE[stage]["cmd"] == f"python -m kd_steps.{stage.replace('@', ' ')}"
    assert PIPELINE[stage]["desc"].endswith(".")


@pytest.mark.parametrize("stage", PIPELINE)
def test_code_dependencies_hold_what_the_stage_imports_and_no_folder_more(stage):
    listed = [dep for dep in PIPELINE[stage]["deps"] if dep.startswith("kd_steps/")]
    imported = stage_deps.imported_files(stage.partition("@")[0])
    assert imported
    assert [file for file in imported if not any(stage_deps.covers(dep, file) for dep in listed)] == []
    assert [dep for dep in listed if not any(stage_deps.covers(dep, file) for file in imported)] == []


def test_the_pipeline_reads_on_one_page_and_compiled_files_are_none_of_it():
    assert len((REPOSITORY / "dvc.yaml").read_text().splitlines()) <= 200
    assert "__pycache__/" in (REPOSITORY / ".dvcignore").read_text().splitlines()


@pytest.mark.parametrize("stage", PIPELINE)
def test_files_that_are_no_python_come_from_the_repository_or_an_earlier_stage(stage):
    outputs = {path for paths in OUTPUTS.values() for path in paths}
    own = set(OUTPUTS[stage])
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for dep in (dep for dep in PIPELINE[stage]["deps"] if not dep.startswith("kd_steps/")):
        assert dep not in own
        made = any(dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for out in outputs)
        assert made or re.search(rf"^{re.escape(dep)}(/|$)", tracked, re.M), f"{stage}: nobody makes {dep}"


def test_every_section_and_key_listed_is_one_of_params_yaml_and_all_are_used():
    used = set()
    for stage, description in PIPELINE.items():
        module, _, item = stage.partition("@")
        assert item or any(key == module or key.startswith(f"{module}.") for key in description["params"]), stage
        used |= {module} if item else set()
        for key in description["params"]:
            values = ASKED
            for part in key.split("."):
                assert part in values, f"{stage}: params.yaml has no {key}"
                values = values[part]
            used.add(key.split(".")[0])
    assert used == set(PARAMETERS)


def test_stages_that_nobody_asked_for_are_not_there():
    assert set(PIPELINE) - set(stages_of(REPOSITORY)) == {
        "assistant@m",
        "assistant@s",
        "plain_student@0",
        "plain_student@1",
    }
    assert "models/teacher" in stages_of(REPOSITORY)["cache_logits"]["deps"]


def test_a_chain_is_taught_one_by_the_other():
    needs = {name: set(stage["deps"]) for name, stage in PIPELINE.items()}
    assert "models/teacher" in needs["assistant@m"]
    assert "models/assistants/m" in needs["assistant@s"]
    for stage in ("cache_logits", "distill"):
        assert "models/assistants/s" in needs[stage]
        assert "models/teacher" not in needs[stage]
    for stage in ("export", "register"):
        assert "models/teacher" in needs[stage], "the gate compares with the true teacher"


def test_an_assistant_depends_on_the_students_recipe_but_not_on_the_student():
    listed = {key.removeprefix("distill.") for key in PIPELINE["assistant@m"]["params"] if key.startswith("distill.")}
    of_the_student = {"model", "weights_sha256", "epochs", "teacher", "answers", "teacher_choice"}
    assert listed == set(PARAMETERS["distill"]) - of_the_student
    plain = {
        key.removeprefix("distill.") for key in PIPELINE["plain_student@0"]["params"] if key.startswith("distill.")
    }
    assert plain == set(Training.model_fields), "what only a teacher makes a difference of does not train it anew"


def test_every_output_is_ignored_by_git_or_kept_there_and_declared_once():
    """By hand: where a later stage fails, DVC takes back the lines that it wrote into .gitignore."""
    outputs = [path for paths in OUTPUTS.values() for path in paths]
    assert len(outputs) == len(set(outputs))
    probes = [f"{path}/x" if "." not in Path(path).name else path for path in outputs]
    command = ["git", "check-ignore", "--no-index", *probes]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    in_git = {"metrics/released/retort.csv"}  # the classes that were registered, which colleagues need, too
    assert set(probes) - set(done.stdout.splitlines()) == in_git


def test_long_stages_keep_their_outputs_across_a_kill():
    """Without `persist`, DVC removes a half-finished output before the stage can go on with it."""
    for stage in ("train_teacher", "assistant@m", "plain_student@0", "cache_logits", "distill", "few_shot", "evaluate"):
        for folder in PIPELINE[stage]["outs"]:
            assert next(iter(folder.values())) == {"persist": True}, stage


def test_make_clean_removes_every_output():
    told = re.search(r"^clean:.*\n\t@rm -rf (.*)$", (REPOSITORY / "Makefile").read_text(), re.M)
    assert told
    removed = [Path(name) for name in told[1].split()]
    for path in (path for paths in OUTPUTS.values() for path in paths):
        assert any(Path(path).is_relative_to(folder) for folder in removed), path


def test_unlabelled_pictures_concern_only_those_who_learn_from_them():
    """A teacher learns from labels alone: pictures that nobody labelled must not train it anew."""
    needing = {stage for stage in PIPELINE if "data/unlabelled" in PIPELINE[stage]["deps"]}
    assert needing == {"validate", "assistant@m", "assistant@s", "cache_logits", "distill"}


def test_the_benchmark_of_a_pipeline_reads_what_its_stages_write(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "tests/bench")
    import pipeline_run

    outputs = {path for stage in stages_of(REPOSITORY) for path in OUTPUTS[stage]}
    assert {f"metrics/{name}.json" for name in (*pipeline_run.TRAININGS, "engines", "gate")} <= outputs
    assert set(pipeline_run.STAGES) == set(stages_of(REPOSITORY))
