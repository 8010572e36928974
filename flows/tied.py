"""``python -m flows.tied PARENT MODULE …``: a Python program that ends with its parent, its children with it."""

from __future__ import annotations

import runpy
import sys

import psutil

from kd_steps.running.parent import end_with


def main() -> None:
    """Watch the parent, then be the module's own command line."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    try:
        end_with(psutil.Process(parent))
    except psutil.NoSuchProcess:
        sys.exit(1)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
