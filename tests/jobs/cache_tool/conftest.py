"""A finished cache for the tests of `retort cache`."""

import shutil

import pytest
from training_fixture import params_of, write_model, write_params, write_training_project

from kd_steps import cache_logits

EVERYTHING = {"attention": True, "pooled": True, "max_vectors": 5, "pixels": True}


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project with a teacher and a cache of all that one can hold; read-only."""
    root = write_training_project(tmp_path_factory.mktemp("verified"))
    section = params_of(root).cache_logits.model_dump(mode="json")
    write_params(root, cache_logits={**section, **EVERYTHING})
    write_model(root, "teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cache_logits.main()
    return root


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy to work in."""
    root = shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(root)
    return root
