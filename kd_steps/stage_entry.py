"""How a stage starts and how it fails: one environment, one error format, one exit code."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from kd_steps.running import hold, parent, pipes, room

COSTS = Path(".retort/stage_costs.jsonl")

# Set before the heavy libraries are imported: each of them reads its own switch only once.
ENVIRONMENT = {
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds; `flows.end_lost_runs` tells by it which runs are gone
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    # A waiting thread spins some 10 µs, not milliseconds: as fast on an idle machine, and far faster on a busy one.
    "GOMP_SPINCOUNT": "10000",
}


def set_environment(root: Path) -> None:
    """Switch off phone-home and self-installing libraries, keep Ultralytics' settings at home, use all cores.

    Ultralytics sets ``OMP_NUM_THREADS`` to 1 where nobody did, so it is said here; a user's own value stays.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    os.environ.setdefault("YOLO_CONFIG_DIR", str(root / ".retort" / "ultralytics"))


def run_stage(main: Callable[[], None]) -> None:
    """Set the environment, then run a stage's ``main`` as its one writer; mendable faults are told plainly.

    A stage imports heavy libraries inside ``main``: they then see the environment, and importing a stage is cheap.
    It ends with the ``dvc`` that started it, and outlives whoever reads its output.
    What the stage cost goes to ``.retort/stage_costs.jsonl``, also when it fails; a kill leaves no line.

    Retort raises such faults as ``ValueError``, ``FileNotFoundError`` or a full disk's ``OSError``, exit code 1; any
    other exception is a defect of ours and keeps its traceback. Ctrl-C gives exit code 130.
    """
    root = Path.cwd()
    set_environment(root)
    pipes.go_on_without_reader()
    parent.end_with_dvc()
    started, stage = time.monotonic(), stage_name(main)
    try:
        with hold.held(root, stage):
            room.require_room(root)
            main()
    except KeyboardInterrupt:
        print(
            f"{stage}: ended by a signal; what it has finished is kept, and the next run goes on there", file=sys.stderr
        )
        raise SystemExit(130) from None
    except (ValueError, OSError) as error:
        if os.environ.get("RETORT_TRACEBACK"):
            raise
        print(f"error: {_own_words(error)}", file=sys.stderr)
        print("(RETORT_TRACEBACK=1 shows where it was raised)", file=sys.stderr)
        raise SystemExit(1) from error
    finally:
        with suppress(OSError):  # a full disk: the stage's own error says so, and a finished stage is finished
            note_cost(stage, time.monotonic() - started)


def stage_name(main: Callable[[], None]) -> str:
    """The name in dvc.yaml of the stage that this process runs: of its file, and of what it is told to make."""
    return "@".join([Path(main.__code__.co_filename).stem, *sys.argv[1:2]])


def _own_words(error: Exception) -> str:
    """What an error says, out of the traceback that a data loader's worker wraps it in."""
    told = str(error)
    if isinstance(error, OSError) and error.errno in room.DISK_FAULTS and error.filename is None:
        told = f"{told}: {room.fullest(Path.cwd())}"
    return told.rpartition(f"{type(error).__name__}: ")[2].strip() if "Original Traceback" in told else told


def note_cost(stage: str, seconds: float) -> None:
    """Add a line with a stage's duration and the peak memory of its process and of its largest child.

    Args:
        stage: the stage's name.
        seconds: wall-clock time, imports included.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    # The kernel's high-water mark since exec; getrusage would count what the parent held when it forked.
    high_water_kib = int(status.partition("VmHWM:")[2].split()[0])
    largest_child_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peaks = {"process": high_water_kib * 1024, "largest_child": largest_child_kib * 1024}
    line = {
        "stage": stage,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "peak_memory_bytes": peaks,
    }
    COSTS.parent.mkdir(exist_ok=True)
    with COSTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
