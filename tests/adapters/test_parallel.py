import os

import pytest

from kd_steps.adapters.parallel import map_in_order


def square(number: int) -> int:
    return number * number


def process_id(_: int) -> int:
    return os.getpid()


def fail_at_seven(number: int) -> int:
    if number == 7:
        raise ValueError("picture 7 is bad")
    return number


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 100])
def test_results_come_in_order(workers: int, n: int) -> None:
    assert list(map_in_order(square, range(n), "squares", workers=workers)) == [i * i for i in range(n)]


def test_work_is_done_in_other_processes() -> None:
    assert os.getpid() not in set(map_in_order(process_id, range(40), "ids", workers=2))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_reaches_the_caller(workers: int) -> None:
    with pytest.raises(ValueError, match="picture 7 is bad"):
        list(map_in_order(fail_at_seven, range(500), "faults", workers=workers))


class Counted:
    """A sequence that knows how many of its items were taken."""

    def __init__(self, n: int) -> None:
        self.n, self.taken = n, 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        if index >= self.n:
            raise IndexError
        self.taken = max(self.taken, index + 1)
        return index


def test_a_slow_consumer_holds_the_workers_back() -> None:
    items = Counted(10_000)
    results = map_in_order(square, items, "held back", workers=2)  # type: ignore[arg-type]
    next(results)
    assert items.taken <= 100
    results.close()  # type: ignore[attr-defined]
