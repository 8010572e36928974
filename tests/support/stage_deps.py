"""Which of our files a stage imports, read from the import graph, and which of them a list of dependencies covers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
# What turns params.yaml into values, starts a stage and tells how far it is makes no output: DVC looks at the values
# themselves.
DOORS = ("kd_steps.params", "kd_steps.running", "kd_steps.stage_entry")


@cache
def _graph() -> grimp.ImportGraph:
    graph = grimp.build_graph("kd_steps", cache_dir=None)
    for module in _doors(graph):
        graph.remove_module(module)
    return graph


def _doors(graph: grimp.ImportGraph) -> list[str]:
    return [name for name in graph.modules if name.startswith(DOORS)]


def door_files() -> list[str]:
    """The doors, and what they import: every stage loads these."""
    graph = grimp.build_graph("kd_steps", cache_dir=None)
    doors = _doors(graph)
    return _files({*doors, *(name for door in doors for name in graph.find_upstream_modules(door))})


def imported_files(stage: str) -> list[str]:
    """The Python files of ours that a stage loads, directly or through others, without packages' own and the doors."""
    module = f"kd_steps.{stage}"
    return _files({module, *_graph().find_upstream_modules(module)})


def _files(modules: set[str]) -> list[str]:
    paths = (Path(*name.split(".")).with_suffix(".py") for name in modules)
    return sorted(path.as_posix() for path in paths if (ROOT / path).exists())


def covers(dependency: str, file: str) -> bool:
    """Whether a dependency of dvc.yaml, a file or a folder, holds a file."""
    return file == dependency or file.startswith(f"{dependency}/")
