"""A Prefect server with all its services, once for these tests."""

import subprocess

import pytest

from flows.dvc_process import end_tree
from flows.services import free_port, prefect_service, wait_until_ready
from kd_steps.stage_entry import ENVIRONMENT


@pytest.fixture(scope="session", autouse=True)
def _no_phone_home():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def prefect_server(_no_phone_home, tmp_path_factory):
    """The server that `retort ui` starts, which makes scheduled runs too; flows of the tests report to it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    home, service = tmp_path_factory.mktemp("prefect"), prefect_service(free_port(0))
    with pytest.MonkeyPatch.context() as patch, (home / "server.log").open("w") as log:
        patch.setenv("PREFECT_HOME", str(home))
        process = subprocess.Popen(service.command, cwd=home, stdout=log, stderr=subprocess.STDOUT, text=True)
        try:
            wait_until_ready(service, process, 400)  # two minutes are not enough on a very busy machine
            with temporary_settings({PREFECT_API_URL: f"{service.page}/api"}):
                yield
        finally:
            end_tree(process)
