"""A real MLflow server on loopback, and a proxy before it that does to requests what networks do."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
READY_S = 120
HOP_BY_HOP = ("host", "transfer-encoding", "content-length", "connection")
FAULTS = ("late answer", "late request", "lost request", "lost answer", "twice")

Chooser = Callable[[str, str], str]  # method and path of a request → a fault, or "" for none


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """MLflow's own server over a SQLite file and a folder; gives its address."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "kept")]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    clean |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=clean, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(f"http://{HOST}:{port}/health", process)
        yield f"http://{HOST}:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.3)
    raise TimeoutError(f"the MLflow server does not answer at {url}")


def drawn_faults(seed: int, share: float) -> Chooser:
    """Draw a fault for this share of all requests."""
    draw = random.Random(seed)
    return lambda method, path: draw.choice(FAULTS) if draw.random() < share else ""


def first_time(fault: str, method: str, path_part: str) -> Chooser:
    """One fault, for the first request of a method whose path holds this."""
    left = [1]

    def choose(asked: str, path: str) -> str:
        if asked == method and path_part in path and left[0]:
            left[0] -= 1
            return fault
        return ""

    return choose


@contextlib.contextmanager
def proxy(target: str, choose: Chooser, delay_s: float = 1.6, password: str | None = None) -> Iterator[str]:
    """A proxy before a server; when it is left, all late requests have arrived.

    Args:
        target: the server's address.
        choose: which fault a request meets.
        delay_s: of what is late; longer than the client's time-out.
        password: that must come with every request, as user ``line``; None asks for none.
    """
    port = int(target.rpartition(":")[2])
    lock = threading.Lock()
    wanted = None if password is None else "Basic " + base64.b64encode(f"line:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def go(self) -> None:
            body = self.body()
            if wanted is not None and self.headers.get("Authorization") != wanted:
                self.answer(401, [("WWW-Authenticate", 'Basic realm="mlflow"')], b"You are not authenticated.")
                return
            with lock:
                fault = choose(self.command, self.path)
            if fault == "lost request":
                self.close_connection = True
                return
            if fault == "late request":
                time.sleep(delay_s)
            status, headers, data = self.forward(body)
            if fault == "twice":
                self.forward(body)
            if fault == "late answer":
                time.sleep(delay_s)
            if fault == "lost answer":
                self.close_connection = True
                return
            self.answer(status, headers, data)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = HTTPConnection(HOST, port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
            try:
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                return response.status, response.getheaders(), response.read()
            finally:
                connection.close()

        def answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            with contextlib.suppress(OSError):  # who asked has given up
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = go  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # who asked has hung up
                super().handle()

        def setup(self) -> None:
            self.timeout = 5  # an idle connection must not hold the proxy open
            super().setup()

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = False  # closing waits for what is under way
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
