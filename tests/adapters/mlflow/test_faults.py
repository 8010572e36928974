"""What goes wrong with MLflow, for real, on loopback: the address, the reason and the right mend, and no secret."""

import contextlib
import logging
import shutil
import socket
import sqlite3
import ssl
import subprocess
import threading
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from mlflow_server import HOST

from kd_steps.adapters.mlflow.faults import TrackingError
from kd_steps.adapters.mlflow.tracking import open_store

SECRETS = ("pa55w0rd", "t0k3n")
CREDENTIALS = "line:pa55w0rd@"


@contextlib.contextmanager
def answering(status, body, kind="text/html", context=None):
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def go(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = go  # noqa: N815

        def log_message(self, *_):
            pass

    server = HTTPServer((HOST, 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def told_of(tmp_path, monkeypatch, caplog):
    """What an address is answered with; no secret may be in the message, its traceback or the log."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0k3n")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost,.invalid")
    caplog.set_level(logging.DEBUG)

    def told(uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(TrackingError) as caught, open_store(tmp_path, "retort"):
            pass
        said = str(caught.value)
        traces = "".join(traceback.format_exception(caught.value)) + caplog.text
        assert not [secret for secret in SECRETS if secret in said + traces]
        assert "Traceback" not in said
        return said

    return told


@pytest.mark.parametrize("given", [True, False])
def test_who_is_not_known_is_told_the_variables_to_set(told_of, monkeypatch, given):
    if not given:
        monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    with answering(401, "You are not authenticated.") as port:
        said = told_of(f"http://{HOST}:{port}")
    assert f"MLflow at http://{HOST}:{port} " in said
    assert ("does not accept the credentials it was given" if given else "asks for credentials") in said
    assert "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN" in said
    assert "answers again" not in said


@pytest.mark.parametrize(
    "body", ["Permission denied", '{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}']
)
def test_who_may_not_is_told_so(told_of, body):
    with answering(403, body) as port:
        said = told_of(f"http://{CREDENTIALS}{HOST}:{port}")
    assert "does not permit this (403: " in said
    assert "Ask for the permission" in said
    assert "answers again" not in said


def test_a_name_that_the_server_does_not_answer_to(told_of):
    with answering(403, "Invalid Host header - possible DNS rebinding attack detected") as port:
        assert "--allowed-hosts" in told_of(f"http://{HOST}:{port}")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "<html>welcome</html>"),
        (404, "<html>no such page</html>"),
        (404, '{"detail": "Not Found"}'),
        (200, '{"hello": "world"}'),
        (200, ""),
        (405, "no"),
    ],
)
def test_a_server_that_is_no_mlflow(told_of, status, body):
    with answering(status, body) as port:
        said = told_of(f"http://{CREDENTIALS}{HOST}:{port}")
    assert "no MLflow server" in said
    assert "MLFLOW_TRACKING_URI" in said


def test_a_service_that_speaks_no_http(told_of):
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connection.recv(100)
                    connection.sendall(b"220 mail ready\r\n")
                    connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            said = told_of(f"http://{HOST}:{listening.getsockname()[1]}")
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert "no MLflow server" in said


def test_https_where_there_is_only_http(told_of):
    with answering(200, "{}") as port:
        said = told_of(f"https://{CREDENTIALS}{HOST}:{port}")
    assert "there is no TLS connection with it" in said
    assert "https:// or http://" in said


def test_a_certificate_that_nobody_here_trusts(told_of, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with answering(200, "{}", context=context) as port:
        said = told_of(f"https://{CREDENTIALS}localhost:{port}")
    assert "certificate is not trusted" in said
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in said


def test_a_name_that_nobody_knows(told_of):
    said = told_of(f"http://{CREDENTIALS}mlflow.invalid:5000")
    assert "no machine is known by that name" in said


def test_nobody_listens(told_of):
    with socket.socket() as taken:  # bound, never listening: connections are refused
        taken.bind((HOST, 0))
        said = told_of(f"http://{CREDENTIALS}{HOST}:{taken.getsockname()[1]}")
    assert "When MLflow answers again" in said
    assert "go on with `dvc repro register`" in said


def test_a_database_of_another_release(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, other = tmp_path / "first", tmp_path / "other"  # in one process MLflow looks at an address once
    first.mkdir()
    with open_store(first, "retort"):
        pass
    shutil.copytree(first, other)
    with contextlib.closing(sqlite3.connect(other / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(TrackingError) as caught, open_store(other, "retort"):
        pass
    assert "its database is of another MLflow release" in str(caught.value)
    assert f"`mlflow db upgrade sqlite:///{other}/mlflow.db`" in str(caught.value)


def test_an_error_of_ours_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match=r"^ours$"), open_store(tmp_path, "retort"):
        raise TrackingError("ours")
