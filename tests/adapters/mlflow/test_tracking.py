import os
import shutil

import pytest

from kd_steps.adapters.mlflow import tracking
from kd_steps.adapters.mlflow.tracking import StageRecord, TrackingError
from kd_steps.adapters.training_log import TrainingLogError, read_curve


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:secret@host:5000/path?token=x", "http://host:5000/path"),
        ("postgresql://user:p%40ss@db/mlflow", "postgresql://db/mlflow"),
        ("sqlite:////a/b/mlflow.db", "sqlite:////a/b/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_credentials(uri, shown):
    assert tracking.without_credentials(uri) == shown


def test_limits_of_the_store_are_kept(store):
    params = {f"{'k' * 260}{n}": "v" * 7000 for n in range(150)}
    metrics = {f"m{n} (×)": n for n in range(1200)}
    runs = tracking.log_result(store, "1" * 64, {"long": "t" * 9000}, [StageRecord("distill", params, metrics)])
    found = store.client.get_run(runs["distill"]).data
    assert len(found.params) == 150
    assert len(found.metrics) == 1200


def test_a_run_cut_short_by_a_kill_is_made_again_without_double_metrics(store):
    record = StageRecord("distill", metrics={"map": 0.5}, curves=(("curve/loss", 2.0, 1), ("curve/loss", 1.0, 2)))
    runs = tracking.log_result(store, "2" * 64, {}, [record])
    store.client.delete_tag(runs["distill"], tracking.COMPLETE_TAG)  # as a kill before the end leaves it
    again = tracking.log_result(store, "2" * 64, {}, [record])
    assert again["parent"] == runs["parent"]
    assert again["distill"] != runs["distill"]
    assert len(store.client.get_metric_history(again["distill"], "curve/loss")) == 2
    assert tracking.log_result(store, "2" * 64, {}, [record]) == again


def test_a_damaged_database_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with (
        pytest.raises(TrackingError, match=r"mlflow\.db cannot be used.*not a database"),
        tracking.open_store(tmp_path, "x"),
    ):
        pass


def test_the_upload_may_take_longer_than_the_first_contact(store):
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
    with tracking.upload_patience():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"


def test_curves_keep_epochs_and_skip_text(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("epoch, train/box_loss,phase,lr\n1, 2.5,warm_up,nan\n3, 1.5,rest,0.1\n")
    assert read_curve(path) == (
        ("curve/train/box_loss", 2.5, 1),
        ("curve/train/box_loss", 1.5, 3),
        ("curve/lr", 0.1, 3),
    )


def test_a_cut_line_of_a_training_log_is_named(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("epoch,loss\n1,2.5\n2\n")
    with pytest.raises(TrainingLogError, match=r"results\.csv, line 3"):
        read_curve(path)


def test_a_project_that_was_copied_does_not_write_into_the_other_ones_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, copy = tmp_path / "first", tmp_path / "copy"
    first.mkdir()
    with tracking.open_store(first, "x"):
        pass
    shutil.copytree(first, copy)
    with (
        pytest.raises(TrackingError, match=rf"keeps its files in .*{first}/mlartifacts: .*moved or copied"),
        tracking.open_store(copy, "x"),
    ):
        pass
    with tracking.open_store(first, "x"):
        pass


def test_a_database_whose_driver_is_not_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+pg8000://user:secret@host/db")
    with (
        pytest.raises(TrackingError, match=r"MLflow at postgresql\+pg8000://host/db cannot be used: .*pg8000") as told,
        tracking.open_store(tmp_path, "x"),
    ):
        pass
    assert "secret" not in str(told.value)
