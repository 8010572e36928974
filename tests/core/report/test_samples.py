import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.data.boxes import CORNERS
from kd_steps.core.report.samples import choose_pictures, mark_picture


def boxes(*rows: tuple[int, float, float, float, float], scores: list[float] | None = None) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["class_id", *CORNERS]).astype(dict.fromkeys(CORNERS, np.float64))
    return frame if scores is None else frame.assign(score=scores)


def test_an_object_is_hit_once_by_the_best_score_of_its_class():
    objects = boxes((0, 0, 0, 10, 10), (1, 50, 50, 60, 60))
    seen = boxes((0, 0, 0, 10, 9), (0, 0, 0, 10, 10), (0, 50, 50, 60, 60), scores=[0.5, 0.9, 0.8])
    marks = mark_picture(objects, seen)
    assert marks.hits.tolist() == [False, True, False]
    assert marks.found.tolist() == [True, False]


def test_nothing_labelled_and_nothing_seen():
    marks = mark_picture(boxes(), boxes(scores=[]))
    assert len(marks.hits) == len(marks.found) == 0
    assert mark_picture(boxes(), boxes((0, 0, 0, 1, 1), scores=[0.5])).hits.tolist() == [False]


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.lists(st.sampled_from("uvwxyz"), max_size=3)), st.data()
)
def test_chosen_pictures_show_the_worst_and_all_classes_there_is_room_for(classes_of, data):
    errors = {picture: data.draw(st.integers(0, 5)) for picture in classes_of}
    chosen = [picture for picture, _ in choose_pictures(classes_of, errors, 8)]
    candidates = [picture for picture, classes in classes_of.items() if classes]
    assert len(chosen) == len(set(chosen)) == min(8, len(candidates))
    if candidates and max(errors[p] for p in candidates):
        assert errors[chosen[0]] == max(errors[p] for p in candidates)
    shown = {c for picture in chosen for c in classes_of[picture]}
    assert shown == {c for classes in classes_of.values() for c in classes}  # six classes, one worst: eight suffice
