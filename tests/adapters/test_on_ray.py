"""Jobs on a real Ray cluster of several nodes on this machine; one of them is killed."""

import os
import time
from functools import partial
from pathlib import Path

import pytest
from ray_nodes import ray_nodes

from kd_steps.adapters.on_ray import AHEAD_PER_CORE, Cluster, ClusterError, _Home, cluster_of, on_ray
from kd_steps.params import load_params

pytestmark = pytest.mark.slow
pytest.importorskip("ray")

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Two nodes; the test is their driver, in a project's folder."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    with ray_nodes(monkeypatch) as start:
        yield start(2)


def square(number):
    if number < 0:
        raise ValueError(f"pictures/{number}.png: no picture")
    return number * number


def leave_a_mark(folder, number):
    """A finished job, as a shard is: a file; which node made it can be told."""
    time.sleep(0.3)
    (folder / f"{number}-{os.getpid()}").touch()
    return number


class Counted(list):
    """Items that count how many were asked for."""

    asked = 0

    def __iter__(self):
        for item in super().__iter__():
            self.asked += 1
            yield item


def test_results_come_in_order_or_as_they_are_done_and_few_are_in_flight(cluster):
    here = Cluster(cluster.address)
    assert here.cores() == 2
    items = Counted(range(40))
    results = on_ray(square, items, here)
    assert next(results) == 0
    assert items.asked <= 2 * AHEAD_PER_CORE + 1
    assert list(results) == [number * number for number in range(1, 40)]
    assert sorted(on_ray(square, range(20), here, in_order=False)) == [number * number for number in range(20)]


def test_a_jobs_own_error_comes_as_it_was_raised(cluster):
    with pytest.raises(ValueError, match=r"^pictures/-1\.png: no picture$"):
        list(on_ray(square, [1, -1, 2], Cluster(cluster.address)))


def test_a_killed_node_loses_no_finished_job(cluster, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    results = on_ray(partial(leave_a_mark, folder), range(30), Cluster(cluster.address), in_order=False)
    done = [next(results) for _ in range(6)]
    finished = {path.name.partition("-")[0] for path in folder.iterdir()}
    cluster.remove_node(cluster.workers[0], allow_graceful=False)
    done += list(results)
    assert sorted(done) == list(range(30)), "each once"
    made = [path.name.partition("-")[0] for path in folder.iterdir()]
    assert len(set(made)) == 30
    again = {number for number in made if made.count(number) > 1}
    assert not again & finished, "only what the node had at work was done again"


def test_a_node_without_the_projects_folder_or_with_other_releases_is_named(cluster, tmp_path):
    (tmp_path / "dvc.yaml").unlink()
    with pytest.raises(ClusterError, match=r"Ray node \S+ does not have .*mount the project's folder there"):
        list(on_ray(square, [1], Cluster(cluster.address)))
    (tmp_path / "dvc.yaml").touch()
    with pytest.raises(ClusterError, match=r"Ray node \S+ has torch .*, not 0\.1: set it up from the same"):
        _Home(str(tmp_path), {"torch": "0.1"}).enter()


def test_no_cluster_at_the_address_is_told_with_the_mend():
    with pytest.raises(ClusterError, match=r"no Ray cluster to work with at 127\.0\.0\.1:9: .*compute\.engine: local"):
        Cluster("127.0.0.1:9").cores()


def test_the_parameters_choose():
    compute = load_params(REPOSITORY / "params.yaml").compute
    assert cluster_of(compute) is None
    assert cluster_of(compute.model_copy(update={"engine": "ray", "ray_address": "a:1"})) == Cluster("a:1")
