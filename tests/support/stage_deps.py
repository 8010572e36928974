"""Which of our modules a stage imports, read from the import graph; ``make deps`` updates dvc.yaml."""

from __future__ import annotations

import sys
from pathlib import Path

import grimp
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DVC_YAML = ROOT / "dvc.yaml"


def imported_files(stage: str) -> list[str]:
    """Every Python file of ours that a stage's process loads, directly or through others, and data beside them."""
    graph = grimp.build_graph("kd_steps", cache_dir=None)
    module = f"kd_steps.{stage}"
    modules = {module, *graph.find_upstream_modules(module)}
    packages = {".".join(name.split(".")[:depth]) for name in modules for depth in range(1, name.count(".") + 1)}
    return sorted(_file_of(name) for name in modules | packages if _file_of(name))


def _file_of(module: str) -> str:
    path = Path(*module.split("."))
    if (ROOT / path / "__init__.py").exists():
        return (path / "__init__.py").as_posix()
    return path.with_suffix(".py").as_posix() if (ROOT / path.with_suffix(".py")).exists() else ""


def write(path: Path = DVC_YAML) -> None:
    """Put the imported files of every stage into a dvc.yaml, behind its other dependencies."""
    yaml = YAML()
    yaml.width = 200  # dvc.yaml keeps each list of parameters on its line
    yaml.indent(mapping=2, sequence=4, offset=2)
    pipeline = yaml.load(path)
    for name, described in pipeline["stages"].items():
        stage = described.get("do", described)  # of stages that there is one of for each name in params.yaml
        others = [dep for dep in stage.get("deps", []) if not str(dep).endswith((".py", ".j2"))]
        templates = ["kd_steps/adapters/report/dossier.html.j2"] if name == "report" else []
        stage["deps"] = [*others, *imported_files(name), *templates]
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(pipeline, stream)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    write()
