"""Engines judged with the help of a Ray cluster find what they find on this machine."""

from dataclasses import fields

import cv2
import numpy as np
import pytest
from engine_fixture import picture
from ray_nodes import ray_nodes

from kd_steps.adapters.on_ray import Cluster
from kd_steps.edge.finding import Finding, find_in_pictures
from kd_steps.edge.pictures import pictures_of
from kd_steps.jobs.measure_engines import PICTURES_A_JOB, find_on_cluster

pytestmark = pytest.mark.slow
pytest.importorskip("ray")


def test_a_cluster_finds_what_this_machine_finds(engines_dir, tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures/test").mkdir(parents=True)
    for index in range(PICTURES_A_JOB + 5):
        cv2.imwrite(str(tmp_path / f"pictures/test/board-{index:03d}.png"), picture(index, 60, 80))
    pictures, finding, told = pictures_of(tmp_path / "pictures"), Finding(0.05, 0.6, 20), []
    engine = engines_dir / "onnx-fp32"
    with ray_nodes(monkeypatch) as start:
        here = Cluster(start(2).address)
        there = find_on_cluster(here, engine, pictures, finding, lambda *step: told.append(step))
    alone = find_in_pictures(engine, pictures, finding, lambda *_: None)
    assert len(alone.score)
    for field in fields(alone):
        np.testing.assert_array_equal(getattr(there, field.name), getattr(alone, field.name))
    assert [done for _, done, _ in told] == [PICTURES_A_JOB, len(pictures)]
