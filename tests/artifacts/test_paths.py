"""Every path of the pipeline stands once, and is what dvc.yaml says."""

import ast
import inspect
import re
from pathlib import Path

import yaml
from tiny_project import outs_of, stages_of

from kd_steps.artifacts import paths

REPOSITORY = Path(__file__).parents[2]
PARAMETERS = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
ASKED = {
    **PARAMETERS,
    "assistant": {"chain": {"m": {"taught_by": "teacher", "model": "yolo11m.yaml", "epochs": 2}}},
    "plain_student": {"seeds": [0]},
}
ARGUMENTS = {"name": "m", "seed": 0, "product": PARAMETERS["product"], "engine": "onnx-fp32"}
NO_OUTPUTS = {"RECEIPT", "RECEIPT_BEFORE"}  # they tell of a machine's own store
WRITTEN = {out for outs in outs_of(REPOSITORY, ASKED).values() for out in outs}
READ = {
    dep for stage in stages_of(REPOSITORY, ASKED).values() for dep in stage["deps"] if not dep.startswith("kd_steps")
}
# A text that is a place below one of the pipeline's folders, and nothing but that.
PLACE = re.compile(r"(data|models|metrics|plots|evaluation|report|expectations|infra)/[\w./{}-]*")


def every_path() -> dict[str, Path]:
    """Constant, or function called as for the pipeline above → the path that it gives."""
    constants = {name: value for name, value in vars(paths).items() if isinstance(value, Path)}
    functions = inspect.getmembers(paths, inspect.isfunction)
    return constants | {
        name: give(*(ARGUMENTS[p] for p in inspect.signature(give).parameters)) for name, give in functions
    }


def test_every_output_of_a_stage_is_one_of_the_paths():
    assert {str(path) for path in every_path().values()} >= WRITTEN


def test_every_path_is_an_output_or_an_input_of_a_stage_or_lies_beside_one():
    """So that a renamed output cannot leave its old path behind."""
    known = [Path(place) for place in WRITTEN | READ]
    for name, path in every_path().items():
        assert name in NO_OUTPUTS or any(path.is_relative_to(place) or place.is_relative_to(path) for place in known), (
            f"{name}: {path}"
        )


def test_paths_are_told_apart():
    found = list(every_path().values())
    assert len(found) == len(set(found))


def texts(path: Path):
    """A module's texts that are neither docstrings nor parts of messages."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)


def test_no_other_module_spells_a_path():
    spelt = [
        f"{path.relative_to(REPOSITORY)}: {text}"
        for package in ("kd_steps", "flows")
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        if path.name != "paths.py"
        for text in texts(path)
        if PLACE.fullmatch(text)
    ]
    assert spelt == []
