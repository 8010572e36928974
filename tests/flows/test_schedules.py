"""The pinned Prefect with what is installed beside it: a schedule must make runs, which no error would tell."""

import time
from collections import Counter
from datetime import timedelta

import pytest

pytestmark = pytest.mark.slow

DEADLINE_S = 60


def test_schedules_make_runs(prefect_server):
    """Prefect 3.8 with SQLAlchemy 2.1 made none; Prefect 3.9 with FastAPI 0.165 refuses to list any."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    schedules = {"cron": CronSchedule(cron="*/5 * * * *"), "interval": IntervalSchedule(interval=timedelta(minutes=1))}
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("on-schedule")
        made = {
            name: client.create_deployment(flow, name, schedules=[DeploymentScheduleCreate(schedule=schedule)])
            for name, schedule in schedules.items()
        }
        deadline, runs = time.monotonic() + DEADLINE_S, Counter()
        while not all(runs[number] for number in made.values()) and time.monotonic() < deadline:
            time.sleep(0.2)
            runs = Counter(run.deployment_id for run in client.read_flow_runs())
    assert all(runs[number] for number in made.values()), {name: runs[number] for name, number in made.items()}
