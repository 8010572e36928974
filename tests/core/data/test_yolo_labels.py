import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.data.yolo_labels import Labels, format_yolo, parse_yolo

share = st.floats(0.001, 1)


@st.composite
def labels(draw: st.DrawFn) -> Labels:
    n = draw(st.integers(0, 8))
    sizes = np.array([[draw(share), draw(share)] for _ in range(n)]).reshape(-1, 2)
    free = np.array([[draw(st.floats(0, 1)), draw(st.floats(0, 1))] for _ in range(n)]).reshape(-1, 2)
    centres = sizes / 2 + free * (1 - sizes)
    class_ids = np.array([draw(st.integers(0, 5)) for _ in range(n)], dtype=np.int64)
    return Labels(class_ids, np.concatenate([centres, sizes], axis=1))


@given(labels())
def test_text_round_trips(wanted: Labels) -> None:
    found, faults = parse_yolo(format_yolo(wanted), n_classes=6)
    assert faults == []
    np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
    np.testing.assert_allclose(found.boxes_cxcywh, wanted.boxes_cxcywh, atol=2e-9)


@given(st.text(max_size=200))
def test_any_text_gives_labels_inside_or_faults(text: str) -> None:
    found, faults = parse_yolo(text, n_classes=3)
    assert len(found.class_ids) + len(faults) == sum(bool(line.strip()) for line in text.splitlines())
    low = found.boxes_cxcywh[:, :2] - found.boxes_cxcywh[:, 2:] / 2
    assert (low > -1e-9).all()
    assert (found.boxes_cxcywh[:, 2:] > 0).all()


def test_no_text_means_no_objects() -> None:
    found, faults = parse_yolo("\n  \n", n_classes=1)
    assert found.boxes_cxcywh.shape == (0, 4)
    assert faults == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 0.5 0.5 0.1", "found 4 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "found 6 numbers"),
        ("0 nan 0.5 0.1 0.1", "'nan' is not a finite number"),
        ("0 inf 0.5 0.1 0.1", "'inf' is not a finite number"),
        ("0 a 0.5 0.1 0.1", "'a' is not a number"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is out of range: data.yaml names 2 classes, 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is out of range"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is out of range"),
        ("0 0.98 0.5 0.1 0.1", "reaches outside the picture"),
        ("0 320 200 30 30", "divide pixels by them"),
        ("0 0.5 0.5 0 0.1", "no area"),
        ("0 0.5 0.5 -0.1 0.1", "no area"),
    ],
)
def test_a_bad_line_is_told_with_its_number(line: str, told: str) -> None:
    found, faults = parse_yolo(f"1 0.5 0.5 0.2 0.2\n\n{line}\n", n_classes=2)
    assert found.class_ids.tolist() == [1]
    assert [fault.line for fault in faults] == [3]
    assert told in faults[0].message


def test_rounding_over_the_edge_is_clipped() -> None:
    found, faults = parse_yolo("0 0.9502 0.5 0.1 0.2", n_classes=1)
    assert faults == []
    assert found.boxes_cxcywh[0, 0] + found.boxes_cxcywh[0, 2] / 2 <= 1


def test_a_polygon_is_taken_by_its_bounding_box() -> None:
    found, _ = parse_yolo("0 0.1 0.2 0.5 0.2 0.3 0.6", n_classes=1)
    np.testing.assert_allclose(found.boxes_cxcywh, [[0.3, 0.4, 0.4, 0.4]])
