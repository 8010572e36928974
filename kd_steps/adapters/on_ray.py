"""The same jobs on a Ray cluster: in order, or as they are done; a lost node's jobs are done again elsewhere."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from kd_steps.edge.identity import release
from kd_steps.params.compute import Compute

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD_PER_CORE = 2
ANSWER_S = 5.0
# What makes pixels and answers: a node with another release would give other bytes.
SAME_EVERYWHERE = ("torch", "ultralytics", "numpy", "opencv-python-headless", "pyarrow")


class ClusterError(ValueError):
    """The Ray cluster cannot do the job; the message names the address or the node, and the mend."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster by its address; None: one of this machine, which ends with this process."""

    address: str | None

    def cores(self) -> int:
        """Cores of the cluster, which is joined or started.

        Raises:
            ClusterError: there is no cluster at that address, or one of another Ray or Python.
        """
        import ray

        if not ray.is_initialized():
            try:
                _require_answer(self.address)
                ray.init(self.address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, RuntimeError, ValueError) as error:
                raise ClusterError(
                    f"compute.ray_address: no Ray cluster to work with at {self.address or 'this machine'}: "
                    f"{' '.join(str(error).split())}; start one with `ray start --head` and name its address, or set "
                    "compute.engine: local"
                ) from error
        return int(ray.cluster_resources().get("CPU", 1))


def cluster_of(compute: Compute) -> Cluster | None:
    """The cluster that ``compute`` asks for, or None.

    Raises:
        ClusterError: Ray is not installed.
    """
    if compute.engine == "local":
        return None
    if find_spec("ray") is None:
        raise ClusterError("compute.engine: ray is not installed; it comes with `pip install '.[ops]'`, or set local")
    return Cluster(compute.ray_address)


def on_ray(
    function: Callable[[Item], Result], items: Sequence[Item], cluster: Cluster, in_order: bool = True
) -> Iterator[Result]:
    """``function`` of each item on the cluster; only a few are in flight, so that memory stays flat.

    Every node works in this project's folder, which it must have under the same path, with the same releases.

    Args:
        function: picklable; it is sent to each process once.
        items: picklable values.
        cluster: where.
        in_order: results in the items' order; otherwise as they are done.

    Raises:
        ClusterError: the cluster cannot be used, a node lacks the project's folder, or has other releases.
    """
    import ray

    ahead = AHEAD_PER_CORE * cluster.cores()
    home = _Home(str(Path.cwd()), {name: release(name) for name in SAME_EVERYWHERE})
    work = [ray.put((home, function))]  # in a list: Ray would give each job a copy of the value itself
    # A task whose node is lost is done again elsewhere; a fault of the job itself would come again.
    task = ray.remote(max_retries=5, retry_exceptions=False, num_cpus=1, scheduling_strategy="SPREAD")(_at_home)
    stream = iter(items)
    waiting = deque(task.remote(work, item) for item in islice(stream, ahead))
    try:
        while waiting:
            done = waiting[0] if in_order else ray.wait(list(waiting), num_returns=1)[0][0]
            result = _result(done)
            waiting.remove(done)
            waiting.extend(task.remote(work, item) for item in islice(stream, 1))
            yield result
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _require_answer(address: str | None) -> None:
    """Knock at an address such as ``ray-head:6379``: Ray itself would wait there for ten minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), ANSWER_S).close()


class _Home:
    """Where and with what a job is to be done."""

    def __init__(self, folder: str, releases: dict[str, str]) -> None:
        self.folder, self.releases = folder, releases

    def enter(self) -> None:
        """Be there, or say what is missing."""
        node = os.uname().nodename
        if not (Path(self.folder) / "dvc.yaml").is_file():
            raise ClusterError(
                f"Ray node {node} does not have {self.folder}: mount the project's folder there under the same path"
            )
        found = {name: release(name) for name in self.releases}
        other = [f"{name} {found[name]}, not {mine}" for name, mine in self.releases.items() if found[name] != mine]
        if other:
            raise ClusterError(f"Ray node {node} has {'; '.join(other)}: set it up from the same requirements.lock")
        os.chdir(self.folder)


@lru_cache(maxsize=1)
def _fetched(reference: Any) -> tuple[_Home, Callable[[Any], Any]]:
    """What is to be done and where; each process fetches it once, and keeps what it has made of it."""
    import ray

    home, function = ray.get(reference)
    home.enter()
    return home, function


def _at_home(work: list[Any], item: Any) -> Any:
    _, function = _fetched(work[0])
    return function(item)


def _result(reference: Any) -> Any:
    """What a job gave; its own error as it raised it, the cluster's as ours."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, ValueError | OSError) else error from None
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"the Ray cluster lost a job: {' '.join(str(error).split())[:300]}; what is finished is kept, run again"
        ) from error
