"""What several tests of adapters share."""

import pytest

from kd_steps.adapters.mlflow import tracking


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An open MLflow store in a file of its own."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with tracking.open_store(root, "test") as opened:
            yield opened
