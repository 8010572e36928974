"""The teacher cache on a Ray cluster: the same bytes as in processes of this machine, whatever is killed."""

import shutil

import pytest
from ray_nodes import ray_nodes
from training_fixture import params_of, write_model, write_params, write_training_project

from kd_steps import cache_logits
from kd_steps.adapters.files import sha256_of
from kd_steps.artifacts import read_json

pytestmark = pytest.mark.slow
pytest.importorskip("ray")


@pytest.fixture
def project(tmp_path, monkeypatch):
    root = write_training_project(tmp_path / "spread")
    write_model(root, "teacher")
    (root / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def start_cluster(monkeypatch):
    with ray_nodes(monkeypatch) as start:
        yield start


def fill(root, shard_views=4, **compute):
    params = params_of(root)
    write_params(root, compute={**params.compute.model_dump(mode="json"), **compute})
    write_params(root, cache_logits={**params.cache_logits.model_dump(mode="json"), "shard_views": shard_views})
    cache_logits.main()
    files = {path.name: sha256_of(path) for path in sorted((root / "data/cache").iterdir())}
    return files, read_json(root / "metrics/cache.json")


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_any_number_of_nodes_gives_the_bytes_of_this_machines_processes(project, start_cluster, nodes):
    local, told = fill(project)
    assert len([name for name in local if name.endswith(".arrow")]) > 2
    shutil.rmtree(project / "data/cache")
    spread, told_there = fill(project, engine="ray", ray_address=start_cluster(nodes).address)
    assert spread == local
    assert told_there["teacher_forwards"] == told["teacher_forwards"] > 0


def test_what_is_finished_is_not_answered_again(project, start_cluster):
    whole, told = fill(project)
    lost = next((project / "data/cache").glob("shard-*.arrow"))
    lost.unlink()
    again, told_again = fill(project, engine="ray", ray_address=start_cluster(2).address)
    assert again == whole
    assert 0 < told_again["teacher_forwards"] <= 4 < told["teacher_forwards"]
