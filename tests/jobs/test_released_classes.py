"""A ledger may grow after a release, and only that."""

from datetime import date

import pytest

from kd_steps.adapters.data.ledger import write_ledger
from kd_steps.artifacts import paths
from kd_steps.core.data.ledger import Ledger, LedgerError
from kd_steps.jobs.released_classes import keep_released, require_unchanged

DAY = date(2026, 11, 29)
RELEASED = Ledger().add(["scratch", "dent"], DAY, "first").withdraw("dent", DAY, "line 4")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A product with a registered release."""
    monkeypatch.chdir(tmp_path)
    write_ledger(paths.ledger("bracket"), RELEASED)
    keep_released("bracket")
    return tmp_path


def test_new_lines_and_other_products_are_fine(project):
    grown = RELEASED.add(["burr"], DAY, "next").rename("scratch", "deep scratch", DAY, "mended")
    for ledger in (RELEASED, grown, grown.withdraw("burr", DAY, "x")):
        require_unchanged("bracket", ledger)
    require_unchanged("hinge", Ledger())


@pytest.mark.parametrize(
    ("present", "told"),
    [
        (Ledger(), "entry 1 is gone: number 0 added as 'scratch' on 2026-11-29"),
        (Ledger().add(["scratch", "dent"], DAY, "first"), "entry 3 is gone: number 1 withdrawn as 'dent'"),
        (
            Ledger().add(["dent", "scratch"], DAY, "first"),
            "entry 1 was number 0 added as 'scratch' .* now .*dent",
        ),
        (Ledger().add(["scratch", "dent"], DAY, "first").withdraw("scratch", DAY, "line 4"), "entry 3 was number 1"),
    ],
)
def test_a_changed_line_is_refused(project, present, told):
    with pytest.raises(LedgerError, match=rf"data/classes/bracket\.csv: {told}") as caught:
        require_unchanged("bracket", present)
    assert "restore the line from git (metrics/released/bracket.csv is the ledger of that release)" in str(caught.value)
