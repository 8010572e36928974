"""What Ray costs: a teacher cache by one worker of a cluster against one process here, and a worker's memory.

Run it on a quiet machine: ``python tests/bench/ray_overhead.py``. It prints what it measures and writes
``tests/bench/results/ray_overhead.json``. Starting the cluster is told apart: it is paid once a stage.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests/support")]
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])

RESULT = REPOSITORY / "tests/bench/results/ray_overhead.json"
ROUNDS = 4
PICTURES, SCALES = 64, (1, 4, 16)
SIDE_PX = 320
MIB = 2**20


def main() -> None:
    import ray
    from ray.cluster_utils import Cluster as Nodes

    from kd_steps.adapters.on_ray import Cluster

    with tempfile.TemporaryDirectory(prefix="ray_overhead-") as name:
        projects = {scale: project(Path(name) / f"{scale}x", scale * PICTURES) for scale in SCALES}
        os.chdir(projects[1])
        began = time.monotonic()
        nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        Cluster(nodes.address).cores()
        start_s = time.monotonic() - began
        there = {"engine": "ray", "ray_address": nodes.address}
        fill(projects[1], there)  # the worker loads torch once
        rounds = [(fill(projects[4], {})["seconds"], fill(projects[4], there)["seconds"]) for _ in range(ROUNDS)]
        memory = []
        for scale, root in projects.items():
            fill(root, there)
            memory.append({"pictures": scale * PICTURES, "worker_peak_mib": round(worker_peak() / MIB, 1)})
        ray.shutdown()
        nodes.shutdown()
    ratios = [there_s / here_s for here_s, there_s in rounds]
    result = {
        "cluster_start_s": round(start_s, 1),
        "seconds_here_and_on_ray": [[round(s, 2) for s in pair] for pair in rounds],
        "ratio_on_ray_to_here": {"median": round(statistics.median(ratios), 3), "each": [round(r, 3) for r in ratios]},
        "memory": memory,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def project(root: Path, pictures: int) -> Path:
    """A training project with a teacher, at the size that boards are trained at."""
    import training_fixture as fixture

    root.mkdir(parents=True)
    fixture.COUNTS, fixture.SIZE_PX = {**fixture.COUNTS, "train": pictures}, (SIDE_PX, SIDE_PX)
    fixture.write_training_project(root, preprocessing={"imgsz_px": SIDE_PX})
    fixture.write_params(root, preprocessing={"imgsz_px": SIDE_PX}, cache_logits={"shard_views": 64, "batch": 8})
    os.chdir(root)
    fixture.write_model(root, "teacher")
    (root / "dvc.yaml").write_text("stages: {}\n")
    return root


def fill(root: Path, compute: dict[str, Any]) -> dict[str, Any]:
    """Fill the cache of a project anew, by one process or one worker; what it took."""
    from training_fixture import params_of

    from kd_steps.jobs.cache_filling import fill_cache

    os.chdir(root)
    params = params_of(root)
    asked = params.cache_logits.model_copy(update={"processes": 1})
    chosen = params.compute.model_copy(update=compute)
    shutil.rmtree(root / "data/cache", ignore_errors=True)
    params = params.model_copy(update={"compute": chosen, "cache_logits": asked})
    return fill_cache(params, root / "models/teacher", root / "data/cache")


def worker_peak() -> int:
    """Bytes that the largest of Ray's workers ever held."""
    peaks = [0]
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::"):
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            peaks.append(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
    return max(peaks)


if __name__ == "__main__":
    main()
