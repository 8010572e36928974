"""Ultralytics' log, held back where it would tell a user of things that are not theirs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ultralytics.utils import LOGGER


@contextmanager
def quiet() -> Iterator[None]:
    """Let Ultralytics tell errors only."""
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
