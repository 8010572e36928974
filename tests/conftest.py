"""Fixtures that several folders of tests share."""

import shutil

import pytest


@pytest.fixture(scope="session")
def engine_project(tmp_path_factory):
    """A project after `export`; read-only for tests."""
    from engine_fixture import make_project

    return make_project(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="session")
def engines_dir(engine_project):
    """Its four engine folders: teacher (end2end head), onnx-fp32, ort-cpu-int8, openvino-fp16; read-only for tests."""
    return engine_project / "models/engines"


@pytest.fixture
def own_engine(engines_dir, tmp_path):
    """Gives a copy of one engine folder that a test may damage."""

    def copy(name):
        return shutil.copytree(engines_dir / name, tmp_path / name)

    return copy
