"""What `retort doctor` says, of real folders, real servers on loopback, and a real DVC project."""

import base64
import http.server
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import pytest

from kd_steps.adapters.checkup import WATCHED, disks, dvc_remotes, packages, prefect_server, processor

REPOSITORY = Path(__file__).parents[2]
SECRET = "s3cr3t-word"


@pytest.fixture
def project(tmp_path):
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    return tmp_path


def remote(project, address):
    command = [sys.executable, "-m", "dvc", "remote", "add", "-q", "store", address]
    subprocess.run(command, cwd=project, check=True)
    (found,) = dvc_remotes(project)
    return found


@pytest.fixture
def server():
    """A server of Prefect's kind: its version at /api/admin/version, for those who bring user and password."""
    wanted = {"version": version("prefect"), "user": None}

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            basic = base64.b64encode(str(wanted["user"]).encode()).decode()
            code = 401 if wanted["user"] and self.headers.get("Authorization") != f"Basic {basic}" else 200
            self.send_response(code if self.path == "/api/admin/version" else 404)
            self.end_headers()
            self.wfile.write(f'"{wanted["version"]}"'.encode())

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    wanted["address"] = f"http://127.0.0.1:{running.server_port}/api"
    yield wanted
    running.shutdown()
    running.server_close()


def test_packages_are_compared_with_the_lock(tmp_path):
    assert packages(tmp_path).state == "note"
    lock = tmp_path / "requirements.lock"
    lock.write_text("".join(f"{name}=={version(name).split('+')[0]} \\\n" for name in WATCHED))
    assert packages(tmp_path).state == "ok"
    lock.write_text(lock.read_text().replace("torch==", "torch==0.0.1+", 1))
    found = packages(tmp_path)
    assert (found.state, found.mend) == ("fault", "run `make setup`")
    assert f"torch {version('torch').split('+')[0]} (lock: 0.0.1" in found.told
    assert packages(REPOSITORY).state == "ok", "the tests run on what the lock says"


def test_the_processor_is_told_with_what_int8_needs():
    found = processor()
    assert "cores" in found.told
    assert (found.state == "note") == ("VNNI" not in found.told.replace("none of", "") and "x86_64" in found.told)


def test_disks_are_told_and_a_full_one_is_a_fault(project):
    names = [found.subject for found in disks(project)]
    assert names == ["disk of the project"]
    (project / ".dvc/cache").mkdir()
    assert [found.subject for found in disks(project)] == ["disk of the project", "disk of DVC's cache"]
    (project / ".dvc/cache").rmdir()
    (project / ".dvc/cache").symlink_to("/proc")
    assert [found.state for found in disks(project)] == ["ok", "ok", "fault"]


def test_prefects_server_is_asked(server, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert prefect_server().state == "ok"
    monkeypatch.setenv("PREFECT_API_URL", server["address"])
    assert prefect_server().state == "ok"
    server["version"] = "1.2.3"
    found = prefect_server()
    assert (found.state, "is 1.2.3, here is" in found.told) == ("note", True)
    server["user"] = f"ann:{SECRET}"
    assert (prefect_server().state, prefect_server().mend) == ("fault", "set PREFECT_API_AUTH_STRING")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", f"ann:{SECRET}")
    server["version"] = version("prefect")
    assert prefect_server().state == "ok"
    monkeypatch.setenv("PREFECT_API_URL", f"http://ann:{SECRET}@127.0.0.1:9/api")
    found = prefect_server()
    assert found.state == "fault"
    assert SECRET not in found.told + found.mend


def test_without_a_remote_nobody_can_pull(project):
    (found,) = dvc_remotes(project)
    assert (found.state, "dvc remote add" in found.mend) == ("note", True)


def test_a_folder_as_remote_is_looked_at(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    assert remote(project, str(folder)).state == "ok"
    folder.rmdir()
    (found,) = dvc_remotes(project)
    assert (found.state, found.told) == ("fault", f"{folder}: no such folder")


def test_a_remote_whose_package_is_missing_is_a_fault_and_shows_no_password(project):
    found = remote(project, f"hdfs://ann:{SECRET}@store/bucket")
    assert found.state == "fault"
    assert "dvc-hdfs" in found.mend
    assert SECRET not in found.told + found.mend


def test_a_folder_without_dvc_is_told(tmp_path):
    (found,) = dvc_remotes(tmp_path)
    assert (found.state, found.mend) == ("fault", "run `dvc init`")
