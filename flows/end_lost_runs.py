"""``python -m flows.end_lost_runs``: a run that has fallen silent counts as crashed, and the next can begin.

A run beats every half minute while its process lives. Killed together with its worker, it would be "running" for ever,
and the deployment's next runs would wait for it. Started again, it changes what is there.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from flows.automation import keep, server_is_named
from kd_steps.stage_entry import set_environment

NAME = "retort-lost-runs"
SILENCE = timedelta(seconds=60)  # two beats
BEAT = "prefect.flow-run.heartbeat"
ENDS = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}


def main() -> int:
    """Make or change the automation; exit code 1 where no server is named."""
    set_environment(Path.cwd())
    if not server_is_named():
        return 1
    asyncio.run(keep_automation())
    print(f"a run that is silent for {SILENCE.seconds} s counts as crashed from now on (automation {NAME})")
    return 0


async def keep_automation() -> None:
    """Make the automation on the server, or change it to what it is to be."""
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    trigger = EventTrigger(
        after={BEAT},
        expect={BEAT, *ENDS},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=SILENCE,
    )
    told = f"its process has been silent for {SILENCE.seconds} s: killed, or its machine"
    crash = ChangeFlowRunState(name=None, state=StateType.CRASHED, message=told, force=False)
    await keep(Automation(name=NAME, description="Runs whose process is gone", trigger=trigger, actions=[crash]))


if __name__ == "__main__":
    raise SystemExit(main())
