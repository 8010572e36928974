"""``python -m flows.tied_dvc PARENT …``: DVC as a child that ends with its parent, and its stage with it."""

from __future__ import annotations

import sys

import psutil

from kd_steps.running.parent import end_with


def main() -> int:
    """Watch the parent, then be DVC's own command line."""
    parent = int(sys.argv[1])
    try:
        end_with(psutil.Process(parent))
    except psutil.NoSuchProcess:
        return 1
    from dvc.cli import main as dvc

    return int(dvc(sys.argv[2:]))


if __name__ == "__main__":
    raise SystemExit(main())
