"""Which classes few-shot training gives, and their numbers."""

import pytest

from kd_steps.core.data.part_classes import classes_with_new_parts


@pytest.mark.parametrize(
    ("held_out", "sets", "expected"),
    [
        ([], [], ("a", "b")),
        (["x"], [], ("a", "b")),
        (["x"], [["b", "x"]], ("a", "b", "x")),
        (["y", "x"], [["x"], ["y", "a"]], ("a", "b", "y", "x")),
        (["x"], [["z", "x"], ["c"]], ("a", "b", "x", "c", "z")),
        ([], [["z", "c"], ["c"]], ("a", "b", "c", "z")),
        (["x"], [["a", "b"]], ("a", "b")),
    ],
)
def test_base_first_then_held_out_then_the_others(held_out, sets, expected):
    assert classes_with_new_parts(["a", "b"], held_out, sets) == expected
