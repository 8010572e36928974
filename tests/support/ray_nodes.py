"""A real Ray cluster of several nodes on this machine."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def ray_nodes(monkeypatch) -> Iterator[Callable[[int], Any]]:
    """Gives a function that starts a cluster: a head that works on nothing, and so many nodes of a core each.

    Its ``workers`` are these nodes. Ray takes SIGTERM for itself, in a driver for good; it is given back.
    """
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests/support")]))
    before, started = signal.getsignal(signal.SIGTERM), []

    def start(nodes: int) -> Cluster:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        cluster.workers = [cluster.add_node(num_cpus=1) for _ in range(nodes)]
        cluster.wait_for_nodes()
        started.append(cluster)
        return cluster

    try:
        yield start
    finally:
        ray.shutdown()
        for cluster in started:
            cluster.shutdown()
        signal.signal(signal.SIGTERM, before)
