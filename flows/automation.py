"""Automations on Prefect's server: each has one name, and said again it is changed, not doubled."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.automations import Automation


def server_is_named() -> bool:
    """Whether ``PREFECT_API_URL`` names a server; says so where it does not."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    print("error: PREFECT_API_URL names no server; `source .retort/stack/env`, or set it", file=sys.stderr)
    return False


async def keep(wanted: Automation) -> None:
    """Make an automation on the server, or change the one of its name to what it is to be."""
    try:
        wanted.id = (await type(wanted).aread(name=wanted.name)).id
    except ValueError:  # there is none of that name
        await wanted.acreate()
    else:
        await wanted.aupdate()
