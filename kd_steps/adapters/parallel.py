"""All cores for many small jobs, here or on a Ray cluster: results in order, and memory that stays flat."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

from tqdm import tqdm

from kd_steps.adapters.on_ray import Cluster, cluster_of, on_ray
from kd_steps.edge.identity import cores
from kd_steps.params.compute import Compute
from kd_steps.running import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 8
CLUSTER_BATCH = 32  # of a job on another machine, which costs more to send
BATCHES_AHEAD_PER_WORKER = 3
# Starting processes costs about as much as this many pictures.
WORTH_PROCESSES = 64


_cluster: Cluster | None = None


def choose_engine(compute: Compute) -> None:
    """Let :func:`map_in_order` work where ``compute.engine`` says, for the rest of this process.

    Raises:
        ClusterError: Ray is not installed.
    """
    global _cluster
    _cluster = cluster_of(compute)


def map_in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str,
    preload: Sequence[str] = (),
    workers: int | None = None,
) -> Iterator[Result]:
    """``function`` of each item, in the items' order, on all cores, with a progress bar; on Ray where it was chosen.

    Only a few batches are in flight, so that a slow consumer holds the workers back and memory stays flat.

    Args:
        function: picklable; it runs in worker processes, or here if there are few items or one worker.
        items: picklable values.
        description: stands in front of the progress bar.
        preload: modules that the workers' common parent imports once, for all later calls too.
        workers: processes; None: one a core, or none for few items.
    """
    if workers is None:
        workers = cores() if len(items) >= WORTH_PROCESSES else 1
    with tqdm(total=len(items), desc=description, unit="img", mininterval=0.5) as bar:
        if _cluster is not None and workers > 1:
            results = _on_cluster(function, items, _cluster)
        else:
            results = _in_processes(function, items, preload, workers) if workers > 1 else map(function, items)
        for result in results:
            bar.update()
            progress.tell(bar.n, bar.total, "pictures")
            yield result


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], preload: Sequence[str], workers: int
) -> Iterator[Result]:
    # A forked child of a process with threads (torch, OpenCV) can hang: children come from a clean server instead.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: deque[Future[list[Result]]] = deque()
        try:
            stream = iter(items)
            while batch := tuple(islice(stream, BATCH)):
                waiting.append(pool.submit(_run_batch, function, batch))
                if len(waiting) >= workers * BATCHES_AHEAD_PER_WORKER:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _on_cluster(function: Callable[[Item], Result], items: Sequence[Item], cluster: Cluster) -> Iterator[Result]:
    batches = [tuple(items[start : start + CLUSTER_BATCH]) for start in range(0, len(items), CLUSTER_BATCH)]
    for results in on_ray(partial(_run_batch, function), batches, cluster):
        yield from results


def _run_batch(function: Callable[[Item], Result], batch: tuple[Item, ...]) -> list[Result]:
    return [function(item) for item in batch]
