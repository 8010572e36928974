"""``python -m flows.tell_failures``: Prefect tells an address of every run of ``retrain`` that fails or crashes.

The address comes from ``RETORT_TELL_URL``, as those of chat services hold a token; it gets a POST with ``subject`` and
``text``. Started again, it changes what is there.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from flows.automation import keep, server_is_named
from kd_steps.stage_entry import set_environment

NAME = "retort-failures"
ENDS_TOLD = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}


def main() -> int:
    """Make or change the block and the automation; exit code 1 where something is missing."""
    set_environment(Path.cwd())
    address = os.environ.get("RETORT_TELL_URL", "")
    if not address.startswith(("http://", "https://")):
        print("error: RETORT_TELL_URL names no http address: where are failures to be told?", file=sys.stderr)
        return 1
    if not server_is_named():
        return 1
    asyncio.run(_tell(address))
    print(f"failed and crashed runs of retrain are told from now on; `prefect automation inspect {NAME}` shows how")
    return 0


async def _tell(address: str) -> None:
    from prefect.automations import Automation
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import EventTrigger, Posture

    trigger = EventTrigger(
        expect=ENDS_TOLD,
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": "retrain"},
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
    body = "{{ flow_run.name }} ({{ flow_run.id }}): {{ flow_run.state.name }}: {{ flow_run.state.message }}"
    send = SendNotification(block_document_id=await _block(address), subject="Retort: a run failed", body=body)
    await keep(Automation(name=NAME, description="Failures of retrain", trigger=trigger, actions=[send]))


async def _block(address: str) -> UUID:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    # As a secret of the block the address is enciphered on the server, and shown to nobody.
    values = {
        "name": NAME,
        "url": "{{address}}",
        "json_data": {"subject": "{{subject}}", "text": "{{body}}"},
        "secrets": {"address": address},
        "timeout": 30,
    }
    block = CustomWebhookNotificationBlock.model_validate(values)
    return UUID(str(await block.asave(NAME, overwrite=True)))


if __name__ == "__main__":
    raise SystemExit(main())
