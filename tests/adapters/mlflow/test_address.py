"""Addresses and texts are shown without what they keep secret."""

import pytest

from kd_steps.adapters.mlflow import address


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:secret@host:5000/path?token=x", "http://host:5000/path"),
        ("postgresql://user:p%40ss@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://user:p/a@s?s@db/mlflow", "postgresql://db/mlflow"),
        ("https://token@host", "https://host"),
        ("sqlite:////a/b@c/mlflow.db", "sqlite:////a/b@c/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_addresses_are_shown_without_credentials(uri, shown):
    assert address.without_credentials(uri) == shown


@pytest.mark.parametrize(
    "uri", ["http://me:s3cr%2Ft@host", "http://s3cr%2Ft@host", "http://host/?key=s3cr%2Ft", "http://[::1]/?k=s3cr%2Ft"]
)
def test_a_text_loses_the_secrets_of_the_address_and_of_the_environment(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    told = address.without_secrets(f"{uri}/api: s3cr%2Ft and t0ken at //a:b@host failed", uri)
    assert "failed" in told
    assert not [word for word in ("s3cr", "t0ken", "a:b") if word in told]


def test_the_own_store_lies_in_the_project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert address.tracking_uri(tmp_path) == address.own_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    assert address.tracking_uri(tmp_path) == "http://host"
