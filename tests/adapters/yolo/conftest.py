"""Fixtures of the tests around Ultralytics."""

import pytest
from view_fixture import PLACES, content, view_dataset


@pytest.fixture(scope="session")
def views(training_project):
    """Every view, loaded in order by one process: place → content."""
    source = view_dataset(training_project)
    return {place: content(source[place]) for place in PLACES}
