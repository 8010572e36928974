"""Words beside boxes: in the picture, beside their box, and readable."""

from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.report.label_places import CHARACTER_EM, LINE_EM, label_places

SIZE, FONT = (256, 192), 10.0
LINE = LINE_EM * FONT
CORNER = st.tuples(st.floats(-20, 270), st.floats(-20, 210))
BOXES = st.builds(lambda a, b: (min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])), CORNER, CORNER)


def rectangles(boxes, texts):
    places = label_places(boxes, texts, SIZE, FONT)
    return [
        (left, base - FONT, left + CHARACTER_EM * FONT * len(text), base - FONT + LINE)
        for (left, base), text in zip(places, texts, strict=True)
    ]


def cover(a, b):
    return min(a[2], b[2]) - max(a[0], b[0]) > 1e-6 and min(a[3], b[3]) - max(a[1], b[1]) > 1e-6


@given(st.lists(st.tuples(BOXES, st.text("ab_", min_size=1, max_size=37)), max_size=8))
def test_labels_stay_in_the_picture(labelled):
    for x1, y1, x2, y2 in rectangles(*([pair[side] for pair in labelled] for side in (0, 1))):
        assert x1 >= 0
        assert y1 >= -1e-6
        assert x2 <= SIZE[0] + 1e-6
        assert y2 <= SIZE[1] + 1e-6


def test_a_lone_label_stands_on_its_box_or_hangs_below_it():
    above, below = label_places([(40, 50, 80, 90)], ["short"], SIZE, FONT), (40, 4, 80, 40)
    assert above == [(40, 50 - (LINE_EM - 1) * FONT)]
    assert label_places([below], ["short"], SIZE, FONT) == [(40, 40 + FONT)]


def test_a_long_label_at_the_right_edge_is_moved_left():
    (place,) = rectangles([(230, 50, 250, 70)], ["wrong_polarity 0.75"])
    assert place[2] <= SIZE[0]


@given(st.lists(st.text("ab", min_size=1, max_size=20), min_size=2, max_size=6), st.floats(0, 200), st.floats(60, 100))
def test_labels_of_boxes_that_lie_on_each_other_do_not(texts, x, y):
    """As a missed object and the false alarm on it."""
    found = rectangles([(x, y, x + 30, y + 30)] * len(texts), texts)
    assert not any(cover(a, b) for n, a in enumerate(found) for b in found[:n])


def test_where_there_is_no_room_every_label_has_a_place_all_the_same():
    assert len(label_places([(0, 0, 256, 192)] * 40, ["x" * 60] * 40, SIZE, FONT)) == 40
