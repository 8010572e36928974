import pytest

from kd_steps.adapters.mlflow import tracking
from kd_steps.adapters.mlflow.faults import TrackingError
from kd_steps.adapters.training_log import TrainingLogError, read_curve


def test_a_damaged_database_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with (
        pytest.raises(TrackingError, match=r"mlflow\.db cannot be used.*not a database"),
        tracking.open_store(tmp_path, "x"),
    ):
        pass


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


def test_a_database_whose_driver_is_not_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+pg8000://user:secret@host/db")
    with (
        pytest.raises(TrackingError, match=r"MLflow at postgresql\+pg8000://host/db cannot be used: .*pg8000") as told,
        tracking.open_store(tmp_path, "x"),
    ):
        pass
    assert "secret" not in str(told.value)
