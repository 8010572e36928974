"""Fixtures that several folders of tests share."""

import os
import shutil
import subprocess
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from kd_steps.stage_entry import ENVIRONMENT

pytest_plugins = ["process_state", "random_order"]

CONFIGURATION = tempfile.TemporaryDirectory(prefix="retort-ultralytics-")


def pytest_configure():
    """Before any test imports torch or Ultralytics: no network, settings not the user's, and one thread.

    Tiny networks gain nothing by a second thread, and so the arithmetic is the same on any number of cores. The suite
    passes with others, too: ``OMP_NUM_THREADS=4 make test``.
    """
    own = {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": CONFIGURATION.name}
    for name, value in own.items():
        os.environ.setdefault(name, value)
    # How long an example takes says how busy the machine is.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 60 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this user may not mount a small file system: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="session")
def engine_project(tmp_path_factory):
    """A project after `export`; read-only for tests."""
    from engine_fixture import make_project

    return make_project(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="session")
def engines_dir(engine_project):
    """Its engine folders: teacher (end2end head), onnx-fp32, ort-cpu-int8, openvino-fp16, student-before; read-only."""
    return engine_project / "models/engines"


@pytest.fixture(scope="session")
def evaluated(engine_project, tmp_path_factory):
    """A project after `evaluate`; read-only for tests."""
    from evaluated_project import evaluated_project

    return evaluated_project(engine_project, tmp_path_factory.mktemp("evaluate") / "project")


@pytest.fixture
def evaluated_copy(evaluated, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(evaluated, tmp_path / "project")


@pytest.fixture
def own_engine(engines_dir, tmp_path):
    """Gives a copy of one engine folder that a test may damage."""

    def copy(name):
        return shutil.copytree(engines_dir / name, tmp_path / name)

    return copy


@pytest.fixture(scope="session")
def training_project(tmp_path_factory):
    """A tiny project with a prepared set and no model; read-only for tests."""
    from training_fixture import write_training_project

    return write_training_project(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="session")
def cached(tmp_path_factory):
    """A tiny project with a teacher and its cache; read-only for tests."""
    from training_fixture import write_model, write_training_project

    from kd_steps import cache_logits

    root = write_training_project(tmp_path_factory.mktemp("cached"))
    write_model(root, "teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cache_logits.main()
    return root


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory):
    """The whole pipeline, run once from nothing on a tiny project; tests that change it take a copy."""
    from tiny_project import first_run

    return first_run(tmp_path_factory.mktemp("pipeline") / "project")
