"""The order of the tests."""

from pathlib import Path
from types import SimpleNamespace

from random_order import ordered

NAMES = ("core/test_a.py", "core/test_b.py", "flows/test_c.py", "test_d.py")
ITEMS = [SimpleNamespace(path=Path(name), number=number) for name in NAMES for number in range(8)]


def files_of(items):
    """Path of each run of tests of one file."""
    return [b.path for a, b in zip([None, *items], items, strict=False) if a is None or a.path != b.path]


def test_without_a_seed_the_files_order_stays_but_for_flows():
    found = ordered(ITEMS, None)
    assert found == [item for item in ITEMS if "flows" not in item.path.parts] + ITEMS[16:24]


def test_a_seed_gives_one_order_of_all_tests():
    orders = [ordered(ITEMS, seed) for seed in ("1", "1", "2", "3", "4")]
    assert orders[0] == orders[1]
    assert all(orders[0] != other for other in orders[2:])
    assert all(sorted(map(id, order)) == sorted(map(id, ITEMS)) for order in orders)
    assert len({order[0].path for order in orders}) > 1, "files change places"
    assert all([item.number for item in order[:8]] != list(range(8)) for order in orders), "tests do, within a file"


def test_files_stay_together_and_flows_come_last():
    for seed in map(str, range(20)):
        found = files_of(ordered(ITEMS, seed))
        assert len(found) == len(NAMES)
        assert found[-1] == Path("flows/test_c.py")
