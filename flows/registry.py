"""What MLflow's registry says of the project, asked in a process of its own that may not hold a command up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 20.0  # to import MLflow takes seconds on a busy machine; the store itself gets REQUEST_S
REQUEST_S = 3
COMMAND = (sys.executable, "-m", "kd_steps.jobs.registry_tool", "differences")


@contextmanager
def asked(
    root: Path, command: tuple[str, ...] = COMMAND, deadline_s: float = DEADLINE_S
) -> Iterator[Callable[[], str]]:
    """Ask where the registry contradicts itself; it is looked up while the block does something else.

    Yields:
        What gives the answer: lines to print; none where all is well, one where nothing can be learnt.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (root / "mlflow.db").is_file():
        yield lambda: ""
        return
    patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_S), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with subprocess.Popen(
        command, cwd=root, env=os.environ | patience, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield lambda: _answer(process, deadline_s)
        finally:
            process.kill()


def _answer(process: subprocess.Popen[str], deadline_s: float) -> str:
    try:
        said, _ = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        return f"Registry: MLflow did not answer within {deadline_s:.0f} s"
    lines = said.strip().splitlines()
    if process.returncode:
        return f"Registry: it could not be asked: {lines[-1] if lines else 'no word'}"
    return "\n".join(lines)
