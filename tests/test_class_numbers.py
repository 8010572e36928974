"""What a line sees: `whisker` ships, `fuse` comes, `whisker` goes; a number never comes to mean another class."""

import pytest
from prepared import write_part_set
from training_fixture import CLASSES, run_stage_in, write_model, write_training_project
from typer.testing import CliRunner

from kd_steps.adapters.data.ledger import load_ledger
from kd_steps.artifacts import read_json
from kd_steps.edge.manifest import read_manifest
from kd_steps.jobs.build_engines import read_network
from kd_steps.jobs.class_tool import app

pytestmark = pytest.mark.slow


def retort_classes(*arguments):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def learnt(root):
    """Class → number of every column of the student that few-shot training leaves, in the order of the columns."""
    done = run_stage_in(root, "few_shot")
    assert done.returncode == 0, done.stderr
    network = read_network(root / "models/few_shot", "student", load_ledger("retort"))
    return list(zip(network.classes, network.columns, strict=True))


def test_whisker_ships_fuse_comes_whisker_goes(tmp_path, monkeypatch):
    root = write_training_project(
        tmp_path / "project", export={"targets": ["onnx-fp32"]}, gate={"required_targets": ["onnx-fp32"]}
    )
    for kind in ("teacher", "student"):
        write_model(root, kind)
    monkeypatch.chdir(root)
    assert "3 whisker" in retort_classes("add", "whisker", "--drop", "line 4")
    write_part_set(root / "data/new_parts/line/whisker", ["whisker"], shots=2, first_seed=7_000)
    assert learnt(root) == [("bridge", 0), ("missing", 1), ("whisker", 3)]

    assert "4 fuse" in retort_classes("add", "fuse")
    write_part_set(root / "data/new_parts/line/fuse", [*CLASSES, "fuse"], shots=2, first_seed=8_000)
    assert learnt(root) == [("bridge", 0), ("missing", 1), ("whisker", 3), ("fuse", 4)]

    retort_classes("withdraw", "whisker")
    assert learnt(root) == [("bridge", 0), ("missing", 1), ("fuse", 4)]
    assert read_json(root / "metrics/few_shot.json")["shots"] == {"fuse": 2}
    done = run_stage_in(root, "export")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(root / "models/engines/onnx-fp32")
    assert dict(zip(manifest.classes, manifest.columns, strict=True)) == {"bridge": 0, "missing": 1, "fuse": 4}

    assert "5 whisker" in retort_classes("add", "whisker"), "its old number is never given out again"
    assert [c.number for c in load_ledger("retort").classes if c.withdrawn] == [3]
