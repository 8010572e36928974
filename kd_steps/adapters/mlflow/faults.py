"""What goes wrong with MLflow, in plain words: the address, the reason, and what to do about it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from kd_steps.adapters.mlflow.address import without_credentials, without_secrets

SAFE = "Nothing was lost: models, engines, metrics and the dossier are in the project's folders."
AGAIN = "go on with `dvc repro register`"
WHO = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
REASON_LIMIT = 400

# What a message says → what it means, and the mend. The first that fits is told.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"out-of-date database schema",
        "its database is of another MLflow release",
        "Keep a copy of it and run `mlflow db upgrade {address}` (with the credentials, if it takes any), or install "
        "the MLflow release that made it if that one is newer; then " + AGAIN,
    ),
    (
        r"invalid host header",
        "the server does not answer to this name",
        "Start it with --allowed-hosts, or let MLFLOW_TRACKING_URI name it as it knows itself; then " + AGAIN,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "its TLS certificate is not trusted here",
        "Let MLFLOW_TRACKING_SERVER_CERT_PATH name the certificate that signed it; then " + AGAIN,
    ),
    (
        r"SSLError|WRONG_VERSION_NUMBER|\[SSL",
        "there is no TLS connection with it",
        "See whether the address begins rightly with https:// or http://; then " + AGAIN,
    ),
    (
        r"Name or service not known|Failed to resolve|NameResolutionError|nodename nor servname|name resolution",
        "no machine is known by that name",
        "See whether MLFLOW_TRACKING_URI is spelt rightly and the network is there; then " + AGAIN,
    ),
    (
        r"not in a valid JSON format|404 != 200|405 != 200|501 != 200|ENDPOINT_NOT_FOUND|^INTERNAL_ERROR: Response: "
        r"|Bad Status Line|BadStatusLine|HTTP/0\.9",
        "what answers there is no MLflow server",
        "See whether MLFLOW_TRACKING_URI has the right host, port and path; then " + AGAIN,
    ),
)


class TrackingError(ValueError):
    """MLflow did not do what was asked; the message names the address, what is safe, and how to resume."""


@contextmanager
def clear_errors(uri: str) -> Iterator[None]:
    """Name the address, the reason and how to go on, whatever MLflow, its database or the network raised."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, ConnectionError, ImportError) as error:
        # A traceback shows the causes of an error, too: one that holds a secret is left out.
        raise TrackingError(explained(error, uri)) from (error if _is_clean(error, uri) else None)


def explained(error: Exception, uri: str) -> str:
    """What an error of MLflow, its database or the network means, and its mend."""
    address, text = without_credentials(uri), without_secrets(str(error), uri).strip()
    reason = text.split("\n")[0]
    reason = reason if len(reason) <= REASON_LIMIT else f"{reason[:REASON_LIMIT]} …"
    if status := _refusal(error, text):
        return f"MLflow at {address} {_of_refusal(status, reason)}\n{SAFE}"
    for pattern, meaning, mend in _KNOWN:
        if re.search(pattern, text, re.IGNORECASE):
            return f"MLflow at {address} cannot be used: {meaning} ({reason})\n{SAFE} {mend.format(address=address)}."
    return (
        f"MLflow at {address} cannot be used: {reason}\n{SAFE} When MLflow answers again, or MLFLOW_TRACKING_URI names "
        f"another one, {AGAIN}."
    )


def _refusal(error: Exception, text: str) -> int | None:
    """401 or 403 where MLflow, or a server before it, asks who is there."""
    code = getattr(error, "error_code", "")
    if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED") or "error code 401" in text:
        return 401
    forbidden = code == "PERMISSION_DENIED" or "error code 403" in text
    return 403 if forbidden and "host header" not in text.lower() else None


def _of_refusal(status: int, reason: str) -> str:
    """What to do about a refusal: a wrong password is not mended by waiting."""
    given = any(os.environ.get(name) for name in WHO.replace(",", "").split() if name.startswith("MLFLOW_"))
    if status == 401:
        told = "does not accept the credentials it was given" if given else "asks for credentials"
        return f"{told} (401: {reason})\nSet {WHO}; then {AGAIN}."
    return (
        f"does not permit this (403: {reason})\nAsk for the permission to write there, or set those of a user who has "
        f"it: {WHO}; then {AGAIN}."
    )


def _is_clean(error: BaseException | None, uri: str) -> bool:
    """Whether neither an error nor what led to it holds a secret."""
    while error is not None:
        if without_secrets(told := str(error), uri) != told:
            return False
        error = error.__cause__ or error.__context__
    return True
