"""Whether a teacher suits its student: the 5-point rule, the capacity rule and the sizes of assistants."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.distill.teacher_choice import assistant_sizes, judge_capacity, judge_lead

SIZES = st.integers(100_000, 100_000_000)


@pytest.mark.parametrize(
    ("teacher", "plain", "verdict", "points"),
    [
        (0.50, [0.45], "pass", 5.0),
        (0.50, [0.44, 0.46], "pass", 5.0),
        (0.50, [0.46], "warn", 4.0),
        (0.40, [0.45], "warn", -5.0),
        (0.0, [0.0], "warn", 0.0),
    ],
)
def test_the_lead_is_in_points_over_the_mean_of_the_seeds(teacher, plain, verdict, points):
    found = judge_lead(teacher, plain, 5.0)
    assert (found.rule, found.verdict) == ("lead", verdict)
    assert found.value == pytest.approx(points)
    assert f"{points:+.1f} points" in found.text
    assert f"{len(plain)} seed" in found.text


def test_a_lead_that_nobody_measured_is_no_lead():
    assert judge_lead(0.5, [], 5.0).verdict == "not measured"
    assert "the student alone has no score" in judge_lead(0.5, [], 5.0).text
    assert "the teacher has no score" in judge_lead(None, [0.4], 5.0).text
    assert judge_lead(None, [], 5.0).value is None


@pytest.mark.parametrize(
    ("student", "verdict", "told"),
    [(30, "warn", "more than it can follow"), (34, "pass", "sound"), (50, "pass", "sound"), (51, "warn", "a larger")],
)
def test_the_student_has_a_third_to_a_half_of_the_weights(student, verdict, told):
    found = judge_capacity(100_000_000, student * 1_000_000, 1 / 3, 1 / 2)
    assert (found.rule, found.verdict) == ("capacity", verdict)
    assert told in found.text
    assert found.value == student / 100


def test_yolo11_from_x_to_n_takes_two_assistants_about_m_and_s():
    """56.9 M and 2.6 M weights; m has 20.1 M and s 9.4 M."""
    assert [round(size / 1e6) for size in assistant_sizes(56_900_000, 2_600_000, 1 / 3)] == [20, 7]


def test_one_assistant_is_the_geometric_mean():
    assert assistant_sizes(16_000_000, 4_000_000, 1 / 3) == [8_000_000]


@given(SIZES, SIZES, st.floats(0.1, 0.9))
def test_every_step_is_as_steep_and_none_is_too_steep_and_fewer_would_not_do(one, other, min_share):
    teacher, student = max(one, other), min(one, other)
    sizes = assistant_sizes(teacher, student, min_share)
    line = [teacher, *sizes, student]
    shares = [after / before for before, after in itertools.pairwise(line)]
    assert min(shares) >= min_share * 0.999
    assert shares == pytest.approx([shares[0]] * len(shares), rel=1e-3)
    if sizes:
        assert math.pow(student / teacher, 1 / len(sizes)) < min_share


def test_a_teacher_that_is_smaller_or_no_larger_asks_for_no_assistant():
    assert assistant_sizes(1_000_000, 1_000_000, 1 / 3) == []
    assert assistant_sizes(1_000_000, 3_000_000, 1 / 3) == []
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        assistant_sizes(2, 1, 1)
