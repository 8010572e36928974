"""Where the command ``retort`` starts: without the pipeline's libraries, it says what to install."""

from __future__ import annotations

import sys
from importlib.util import find_spec

NEEDED = ("typer", "rich", "pydantic", "prefect", "dvc", "torch")


def main() -> None:
    """Run ``retort``; exits with 1 and a plain word where the extra ``pipeline`` is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(
            f"error: retort runs the pipeline, whose libraries are not installed ({', '.join(missing)}): in Retort's "
            "folder, `make setup` sets them up, or `pip install '.[pipeline]'`; on a device, `retort-edge` runs engines"
        )
    from flows.cli import main as retort

    retort()
