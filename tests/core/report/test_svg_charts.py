import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from kd_steps.core.report.svg_charts import interval_bar, latency_chart, lines_of, precision_recall_chart

ENGINES = ["teacher", "a", "b", "c", "d"]


def test_engines_differ_in_colour_and_in_dash():
    lines = lines_of(ENGINES)
    assert len({line.colour for line in lines.values()}) == len({line.dash for line in lines.values()}) == 5
    assert len(lines_of([str(n) for n in range(12)])) == 12


def test_a_perfect_curve_runs_along_the_top():
    points = np.column_stack([np.linspace(0, 1, 11), np.ones(11)])
    svg = ElementTree.fromstring(precision_recall_chart("<t>", {"a": points}, lines_of(["a"])))
    assert svg.attrib["aria-label"] == "<t>"
    corners = [tuple(map(float, p.split(","))) for p in svg.find("polyline").attrib["points"].split()]
    assert {y for _, y in corners} == {8.0}
    assert (corners[0][0], corners[-1][0]) == (34.0, 240.0)


@pytest.mark.parametrize("times", [np.full(50, 3.0), np.r_[np.full(99, 2.0), 5000.0], np.array([0.01])])
def test_latencies_stay_inside_the_picture(times):
    svg = ElementTree.fromstring(latency_chart("t", {"teacher": times, "a": times / 2}, lines_of(["teacher", "a"])))
    width = float(svg.attrib["viewBox"].split()[2])
    xs = [float(p.split(",")[0]) for area in svg.iter("polygon") for p in area.attrib["points"].split()]
    assert 0 <= min(xs) <= max(xs) <= width


def test_an_interval_is_drawn_on_its_side_of_the_limit():
    svg = ElementTree.fromstring(interval_bar(0.96, 0.97, 0.99, 0.95, True))
    bar, limit = svg.findall("line")
    assert float(limit.attrib["x1"]) < float(bar.attrib["x1"]) < float(bar.attrib["x2"])


@pytest.mark.parametrize("values", [(None, None, None, 0.5), (0.1, 0.2, float("nan"), 0.5)])
def test_what_was_not_measured_is_not_drawn(values):
    assert interval_bar(*values, good=False) == ""
