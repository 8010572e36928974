"""The order of the tests: that of the files, or drawn from a seed, so that no test leans on one before it.

A plugin of pytest, which ``tests/conftest.py`` names. Ready-made ones seed the global random states before each test,
which hides what a test draws from them, and know nothing of tests that must come last.
"""

import random

import pytest


def pytest_addoption(parser):
    """``--order-seed``."""
    told = "draw the order of the tests from this number, or from a fresh one: new (default: that of the files)"
    parser.addoption("--order-seed", default=None, metavar="N", help=told)


def pytest_configure(config):
    """Draw the fresh seed."""
    if config.option.order_seed == "new":
        config.option.order_seed = str(random.SystemRandom().randrange(1_000_000))


def pytest_report_header(config):
    """Say how this order is had again."""
    if config.option.order_seed is not None:
        return f"order of the tests: --order-seed={config.option.order_seed}"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Put the tests into their order; pytest then brings those together that share a parametrised fixture."""
    items[:] = ordered(items, config.option.order_seed)


def ordered(items, seed):
    """The flow's tests last: once Prefect has run in a process, each process forked from it ends with code 1.

    Stages never share a process with Prefect: the flow starts DVC, and DVC the stages.

    Args:
        items: tests, each with the path of its file.
        seed: of an order of the files, and of the tests within each; None keeps both.
    """
    if seed is not None:
        files = {item.path: [] for item in items}
        for item in items:
            files[item.path].append(item)
        draw = random.Random(seed)
        paths = draw.sample(sorted(files), len(files))
        items = [item for path in paths for item in draw.sample(files[path], len(files[path]))]
    return sorted(items, key=lambda item: "flows" in item.path.parts)
