"""Where MLflow is, and how it is told to people: no user, password or token is ever shown."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def tracking_uri(root: Path) -> str:
    """``MLFLOW_TRACKING_URI``, or the SQLite file at the project's root, as an absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own_uri(root)


def own_uri(root: Path) -> str:
    """The address of the project's own store."""
    return f"sqlite:///{root.resolve() / DATABASE}"


def without_credentials(uri: str) -> str:
    """The address without user, password and query, fit for a receipt or a message."""
    start, slashes, rest = uri.partition("://")
    if not slashes or rest.startswith("/"):
        return uri  # a file
    rest = re.split(r"[?#]", rest.rpartition("@")[2])[0]  # a password may hold a slash or another @
    return f"{start}://{rest}"


def without_secrets(text: str, uri: str) -> str:
    """A text of MLflow, its database or the network, without what the address or the environment keep secret."""
    text = text.replace(uri, without_credentials(uri))
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"//[^/@\s]+@", "//", text)


def _secrets(uri: str) -> set[str]:
    found = {os.environ.get(name, "") for name in SECRETS}
    before = uri.partition("://")[2].rpartition("@")[0]
    user, _, password = before.partition(":")
    query = uri.partition("?")[2].partition("#")[0]
    values = {part.partition("=")[2] for part in query.split("&")}
    # A token may stand in the user's place.
    found |= {password, user if before and not password else "", *values}
    return {form for secret in found if secret for form in (secret, unquote(secret))}
