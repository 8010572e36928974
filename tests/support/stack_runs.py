"""Runs through a stack, and what servers and databases hold of them."""

from __future__ import annotations

import psutil
import requests
from live_stack import LiveStack, wait_for
from stack_project import done

from flows.stack.postgres import Postgres, ask
from kd_steps.running.hold import running

MODELS = {"retort-onnx-fp32", "retort-openvino-fp16", "retort-ort-cpu-int8"}
STAGES_A_RESULT = 9
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def start_run(stack: LiveStack, **parameters: object) -> str:
    deployment = stack.prefect("GET", "/deployments/name/retrain/nightly")["id"]
    made = stack.prefect("POST", f"/deployments/{deployment}/create_flow_run", json={"parameters": parameters})
    return str(made["id"])


def state(stack: LiveStack, flow_run: str) -> tuple[str, str]:
    """Type and name of a run's state; a server that is being started again is asked once more."""
    try:
        told = stack.prefect("GET", f"/flow_runs/{flow_run}")["state"]
    except requests.RequestException:
        return "", ""
    return told["type"], told["name"]


def end_of(stack: LiveStack, flow_run: str) -> str:
    wait_for(lambda: state(stack, flow_run)[0] in ENDED, f"the end of run {flow_run}")
    return state(stack, flow_run)[0]


def in_stage(stack: LiveStack, stage: str) -> None:
    wait_for(lambda: [note for note in running(stack.root) if note.stage == stage], f"stage {stage}")


def versions(stack: LiveStack) -> list[tuple[str, str]]:
    return sorted((one["name"], one["version"]) for one in stack.mlflow("model-versions/search")["model_versions"])


def results(stack: LiveStack) -> dict[str, list[str]]:
    """Parent run → the stages of its child runs."""
    (experiment,) = [stack.mlflow("experiments/get-by-name", experiment_name="retort")["experiment"]]
    address = f"{stack.variables['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/runs/search"
    user = (stack.variables["MLFLOW_TRACKING_USERNAME"], stack.variables["MLFLOW_TRACKING_PASSWORD"])
    asked = {"experiment_ids": [experiment["experiment_id"]], "max_results": 1000}
    found: dict[str, list[str]] = {}
    for one in requests.post(address, json=asked, auth=user, timeout=60).json().get("runs", []):
        tags = {tag["key"]: tag["value"] for tag in one["data"]["tags"]}
        parent = tags.get("mlflow.parentRunId")
        found.setdefault(parent or one["info"]["run_id"], [])
        if parent:
            found[parent].append(tags["pipeline_stage"])
    return found


def nothing_is_done_twice(stack: LiveStack, rounds: int) -> None:
    """After so many rounds: one version a model and round, one result a round, each stage of it once."""
    assert versions(stack) == sorted((name, str(n + 1)) for name in MODELS for n in range(rounds))
    found = results(stack)
    assert len(found) == rounds
    for stages in found.values():
        assert len(stages) == len(set(stages)) == STAGES_A_RESULT
    ended = [line for line in done(stack.root) if line.startswith("done")]
    assert ended == [f"done {n}" for n in range(rounds)]


IN_PREFECT = {
    "flow": "id, name",
    "deployment": "id, name, concurrency_limit_id",
    "task_run": "id, name, state_type",
    "block_document": "id, name, data",
    "automation": "id, name, trigger",
}


def rows(server: Postgres, database: str) -> dict[str, str]:
    """Table → a digest of its rows; of Prefect's, which its server goes on writing, what stays as it is."""
    columns = IN_PREFECT
    if database != "prefect":
        tables = ask(server, database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'").split()
        columns = dict.fromkeys(tables, "*")
    digest = "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM"
    return {table: ask(server, database, f"{digest} (SELECT {of} FROM {table}) t") for table, of in columns.items()}


def stack_processes(stack: LiveStack):
    return psutil.Process(stack.process.pid).children(recursive=True)
