"""What is imported is declared in the extra that installs it, and what is declared is imported or has a reason."""

import ast
import re
import sys
import tomllib
from collections.abc import Collection
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
WITHOUT_IMPORT = {
    "torchvision": "Ultralytics imports it in every validation; it must come from the index that torch comes from",
    "onnxscript": "torch.onnx exports through it",
    "onnxslim": "Ultralytics' export asks for it, and would install it by itself",
    "pytest-timeout": "ends a test that hangs",
    "ruff": "make check",
    "mypy": "make check",
    "import-linter": "make check",
    "pandas-stubs": "types for mypy",
    "types-pyyaml": "types for mypy",
    "uv": "make lock, and the set-up",
    "dvc-s3": "DVC loads it for a remote at s3://",
    "dvc-ssh": "DVC loads it for a remote at ssh://",
    "flask-wtf": "MLflow's sign-in asks for it",
    "moto": "its server is the S3 of `retort stack`",
    "psycopg2-binary": "SQLAlchemy loads it for a store at postgresql://",
}
WHERE = {
    "edge": ["kd_steps/edge"],
    "pipeline": ["kd_steps", "flows"],
    "ops": ["kd_steps/adapters/on_ray.py"],
    "dev": ["tests"],
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str) -> set[str]:
    """Packages of an extra, without those of the extras below it."""
    names = {normal(Requirement(text).name) for text in EXTRAS[extra]}
    return names - {"retort"}


def imported(places: list[str], but: Collection[str] = ()) -> dict[frozenset[str], str]:
    """Packages that one imported module may come from → one of our files that imports it, anywhere in it."""
    ours = {"kd_steps", "flows", *(file.stem for file in (REPOSITORY / "tests").rglob("*.py"))}
    found, of_module = {}, packages_distributions()
    left_out = {REPOSITORY / name for name in but}
    every = [f for place in places for f in [REPOSITORY / place, *sorted((REPOSITORY / place).rglob("*.py"))]]
    for file in [file for file in every if file.is_file() and file not in left_out]:
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for top in {module.partition(".")[0] for module in modules} - ours - sys.stdlib_module_names:
                found[frozenset(map(normal, of_module.get(top, [top])))] = str(file.relative_to(REPOSITORY))
    return found


@pytest.mark.parametrize(
    ("extra", "below"),
    [("edge", []), ("pipeline", ["edge"]), ("ops", ["edge", "pipeline"]), ("dev", ["edge", "pipeline", "ops"])],
)
def test_what_is_imported_is_declared(extra, below):
    known = set().union(*(declared(name) for name in (extra, *below)))
    found = imported(WHERE[extra], WHERE["ops"] if extra == "pipeline" else ())
    missing = [f"{file}: {', '.join(names)}" for names, file in found.items() if not names & known]
    assert not missing, f"declare these in the extra `{extra}`"


@pytest.mark.parametrize("extra", list(WHERE))
def test_what_is_declared_is_imported_or_has_a_reason(extra):
    unused = declared(extra).difference(*imported(WHERE[extra])) - set(WITHOUT_IMPORT)
    assert not unused, "no file imports these: drop them, or say why they are needed"


def test_a_reason_is_given_only_where_nothing_is_imported():
    unused = set().union(*(declared(extra).difference(*imported(folders)) for extra, folders in WHERE.items()))
    assert set(WITHOUT_IMPORT) <= unused
