"""How a stage starts and how it fails: one environment, one error format, one exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

# Set before the heavy libraries are imported: each of them reads its own switch only once.
ENVIRONMENT = {
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait starve each other on a busy machine
}


def set_environment(root: Path) -> None:
    """Switch off phone-home and self-installing libraries, and keep Ultralytics' settings inside the project."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(root / ".retort" / "ultralytics"))


def run_stage(main: Callable[[], None]) -> None:
    """Set the environment, then run a stage's ``main``; a fault that a user can mend is printed plainly, exit code 1.

    A stage imports heavy libraries inside ``main``: they then see the environment, and importing a stage is cheap.

    Retort raises such faults as ``ValueError``, ``FileNotFoundError`` or a full disk's ``OSError``; any other
    exception is a defect of ours and keeps its traceback.
    """
    set_environment(Path.cwd())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # behind DVC's and Prefect's pipes, progress is to show at once
    try:
        main()
    except (ValueError, OSError) as error:
        if os.environ.get("RETORT_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        print("(RETORT_TRACEBACK=1 shows where it was raised)", file=sys.stderr)
        raise SystemExit(1) from error
