"""How the classes of a teacher and of a data set differ."""

import pytest

from kd_steps.core.data.class_names import class_difference


@pytest.mark.parametrize(
    ("teacher", "told"),
    [
        (["open", "short", "spur"], None),
        (("open", "short", "spur"), None),
        (["short", "open", "spur"], "another order: number 0 is 'short' of the teacher and 'open' of the data"),
        (["open", "short"], "the teacher does not know 'spur'"),
        (["open", "short", "spur", "hole"], "the data does not have 'hole'"),
        (["open", "short", "Spur"], "the teacher does not know 'spur'; the data does not have 'Spur'"),
        (["cat", "dog"], "no class in common: the teacher knows 'cat', 'dog', the data 'open', 'short', 'spur'"),
        ([], "no class in common: the teacher knows none"),
    ],
)
def test_the_difference_is_named(teacher, told):
    found = class_difference(teacher, ["open", "short", "spur"])
    assert found is None if told is None else told in found
