"""Which of our files a stage imports, read from the import graph, and which of them a list of dependencies covers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("kd_steps", cache_dir=None)


def imported_files(stage: str) -> list[str]:
    """Every Python file of ours that a stage's process loads, directly or through others; packages' own left out."""
    module = f"kd_steps.{stage}"
    paths = (Path(*name.split(".")).with_suffix(".py") for name in {module, *_graph().find_upstream_modules(module)})
    return sorted(path.as_posix() for path in paths if (ROOT / path).exists())


def covers(dependency: str, file: str) -> bool:
    """Whether a dependency of dvc.yaml, a file or a folder, holds a file."""
    return file == dependency or file.startswith(f"{dependency}/")
