"""The files for containers and for a cluster say what `retort stack` starts; read here, run nowhere."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from flows.stack.place import WANTED_PORTS
from flows.stack.postgres import DATABASES, ROLE

REPOSITORY = Path(__file__).parents[1]
INFRA = REPOSITORY / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
MANIFESTS = [
    document
    for file in sorted((INFRA / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
SERVICES = COMPOSE["services"]
PODS = {
    one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in MANIFESTS if "template" in one.get("spec", {})
}
SECRET = re.compile(r"PASSWORD|SECRET|COOKIES|KEY|AUTH_STRING")
# Read by our code, or by the libraries that it talks through, and told in infra/.env.example.
OF_ONE_PROCESS = {"RETORT_RENDEZVOUS", "RETORT_STAGE_NOTE", "RANK", "LOCAL_RANK", "WORLD_SIZE", "DVC_STAGE", "PATH"}


def test_both_have_the_parts_of_the_stack():
    assert set(SERVICES) == set(PODS) == set(WANTED_PORTS)
    listed = yaml.safe_load((INFRA / "kubernetes/kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {file.name for file in (INFRA / "kubernetes").iterdir()}


def test_both_make_the_databases_of_the_stack():
    sql = (INFRA / "databases.sql").read_text()
    assert re.findall(r"CREATE DATABASE (\w+);", sql) == list(DATABASES)
    (config,) = [one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap"]
    assert config["databases.sql"].strip() == "\n".join(sql.splitlines()[1:])
    assert SERVICES["postgres"]["environment"]["POSTGRES_USER"] == ROLE


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_container_is_not_root_is_looked_after_and_holds_no_secret(name):
    service = SERVICES[name]
    assert int(service["user"].split(":")[0]) > 0
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    for variable, value in service.get("environment", {}).items():
        assert not SECRET.search(variable) or re.fullmatch(r"\$\{\w+:\?[\w ]+\}", value), variable
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert source.startswith("./") or source in COMPOSE["volumes"]
    assert set(service.get("depends_on", {})) <= set(SERVICES)


@pytest.mark.parametrize("name", list(PODS))
def test_a_pod_is_not_root_is_looked_after_and_holds_no_secret(name):
    pod, (container,) = PODS[name], PODS[name]["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    for variable in container.get("env", []):
        if SECRET.search(variable["name"]):
            assert variable["valueFrom"]["secretKeyRef"]["name"] == "retort"
            assert "value" not in variable
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted <= {volume["name"] for volume in pod["volumes"]} | {"data"}


def test_both_give_a_part_the_same_variables():
    for name, service in SERVICES.items():
        mine = {one["name"] for one in PODS[name]["containers"][0].get("env", [])} - {"PGDATA"}
        assert mine == set(service.get("environment", {})), name


def test_the_image_is_built_from_the_lock_and_is_not_root():
    text = (INFRA / "Containerfile").read_text()
    assert "--require-hashes requirements.lock" in text
    assert re.findall(r"^USER (.*)$", text, re.M) == ["10001"]
    assert "://" not in text, "no address of a registry"
    for kept_out in (".retort", "**/.env", ".git"):
        assert kept_out in (REPOSITORY / ".containerignore").read_text().splitlines()


def test_every_role_of_the_image_is_one_of_ours():
    script = (INFRA / "container.sh").read_text()
    roles = set(re.findall(r"^  (\w+)\)$", script, re.M))
    assert roles == set(SERVICES) - {"postgres"}
    for name in roles:
        assert SERVICES[name]["command"] == PODS[name]["containers"][0]["args"] == [name]
    done = subprocess.run([INFRA / "container.sh", "web"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no role 'web'; there are: mlflow" in done.stderr
    bare = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([INFRA / "container.sh", "mlflow"], env=bare, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "RETORT_POSTGRES_PASSWORD" in done.stderr


def test_compose_itself_reads_the_file():
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker compose here")
    words = {f"RETORT_{name}": "x" for name in ("POSTGRES_PASSWORD", "MLFLOW_PASSWORD", "MLFLOW_COOKIES")}
    words |= {"RETORT_PREFECT_PASSWORD": "x", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    command = ["docker", "compose", "-f", str(INFRA / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, env={"PATH": "/usr/bin:/bin", **words}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_variable_that_we_read_is_told():
    told = set(re.findall(r"^# export (\w+)=", (INFRA / ".env.example").read_text(), re.M))
    code = "\n".join(
        file.read_text() for folder in ("kd_steps", "flows") for file in (REPOSITORY / folder).rglob("*.py")
    )
    read = set(re.findall(r"environ(?:\.get|\.setdefault)?[\[(]\"([A-Z_]+)\"", code))
    read |= set(re.findall(r"\b(RETORT_[A-Z_]+|PREFECT_API_AUTH_STRING)\b", code))
    assert read - OF_ONE_PROCESS - told == set()
    from kd_steps.stage_entry import ENVIRONMENT

    assert set(ENVIRONMENT) <= told


def test_secrets_have_no_value_in_the_example():
    for line in (INFRA / ".env.example").read_text().splitlines():
        name, _, value = line.removeprefix("# export ").partition("=")
        if SECRET.search(name) and line.startswith("# export "):
            assert not value.split("#")[0].strip(), name


def test_the_deployment_waits_for_the_run_before():
    (deployment,) = yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"]
    assert deployment["entrypoint"] == "flows.retrain.retrain"
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert deployment["schedules"][0]["cron"]
    assert deployment["work_pool"]["name"] == "retort"
