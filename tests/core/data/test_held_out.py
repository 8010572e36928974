import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.data.held_out import ERASE_MARGIN_PX, check_known, choose_shots, erase, lost_objects

CLASSES = ("open", "short", "spur")


def test_unknown_class_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"prepare\.new_parts\.classes names \['spurr'\].*open, short, spur"):
        check_known(["spurr"], CLASSES)
    with pytest.raises(ValueError, match="twice"):
        check_known(["open", "open"], CLASSES)
    with pytest.raises(ValueError, match="leave at least one"):
        check_known(CLASSES, CLASSES)
    check_known([], CLASSES)


@given(
    st.lists(st.lists(st.sampled_from(CLASSES), max_size=3), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(0, 9),
    st.data(),
)
def test_shots_are_trainable_enough_and_repeatable(
    names: list[list[str]], shots: int, seed: int, data: st.DataObject
) -> None:
    trainable = [data.draw(st.booleans()) for _ in names]
    held_out = ["open", "spur"]
    counts = {c: sum(c in own for own, ok in zip(names, trainable, strict=True) if ok) for c in held_out}
    if any(0 < count < shots for count in counts.values()):
        with pytest.raises(ValueError, match=f"asks for {shots} pictures of"):
            choose_shots(names, trainable, held_out, shots, seed)
        return
    chosen = choose_shots(names, trainable, held_out, shots, seed)
    assert chosen == choose_shots(names, trainable, held_out, shots, seed)
    assert all(trainable[i] for i in chosen)
    assert len(chosen) <= shots * len(held_out)
    for name in held_out:
        assert sum(name in names[i] for i in chosen) >= (shots if counts[name] else 0)


def test_one_class_gets_exactly_its_shots() -> None:
    assert len(choose_shots([["spur"]] * 50, [True] * 50, ["spur"], 10, 3)) == 10


@st.composite
def boards(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    n = draw(st.integers(0, 5))
    corner, size = st.floats(0, 40), st.floats(0.5, 20)
    boxes = np.array(
        [
            [x, y, min(x + draw(size), 48), min(y + draw(size), 48)]
            for x, y in (draw(st.tuples(corner, corner)) for _ in range(n))
        ]
    ).reshape(-1, 4)
    lost = np.array([draw(st.booleans()) for _ in range(n)], dtype=bool)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    picture = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    return picture, 255 - picture, boxes, lost


@given(boards())
def test_erased_area_shows_the_template_and_the_rest_the_picture(
    board: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    picture, template, boxes, lost = board
    erased = erase(picture, template, boxes, lost)
    is_template = (erased == template).all(axis=2)
    assert (is_template | (erased == picture).all(axis=2)).all()
    rows, columns = np.mgrid[:48, :48]

    def within(box: np.ndarray, margin: int) -> np.ndarray:
        inside_x = (columns + 1 > box[0] - margin) & (columns < box[2] + margin)
        return inside_x & (rows + 1 > box[1] - margin) & (rows < box[3] + margin)

    core = np.zeros((48, 48), dtype=bool)
    reach = core.copy()
    kept = core.copy()
    for box in boxes[lost]:
        core |= within(box, 0)
        reach |= within(box, ERASE_MARGIN_PX + 1)
    for box in boxes[~lost]:
        kept |= within(box, 0)
    assert is_template[core].all()
    assert not is_template[~reach].any()
    assert not is_template[kept & ~core].any()


def test_a_base_object_mostly_under_an_erased_one_goes_with_it() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 1, 5, 5], [9, 9, 20, 20]])
    assert lost_objects(boxes, np.array([True, False, False])).tolist() == [True, True, False]
    assert lost_objects(boxes, np.zeros(3, dtype=bool)).tolist() == [False] * 3


def test_a_template_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="8 × 4 px, the picture 4 × 4 px"):
        erase(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 8, 3), np.uint8), np.zeros((0, 4)), np.zeros(0, bool))


def test_a_picture_with_two_classes_is_a_shot_of_both() -> None:
    names = [["open", "spur"]] * 6 + [["spur"]] * 20
    assert choose_shots(names, [True] * 26, ["open", "spur"], 6, 0) == list(range(6))


def test_the_seed_decides_among_the_pictures() -> None:
    assert len({tuple(choose_shots([["spur"]] * 50, [True] * 50, ["spur"], 5, seed)) for seed in range(5)}) == 5


def test_the_margin_around_an_erased_object_is_erased_too() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    erased = erase(picture, picture + 255, np.array([[10.0, 12, 20, 18]]), np.array([True]))
    rows, columns = np.nonzero(erased[..., 0])
    assert (rows.min(), columns.min()) == (12 - ERASE_MARGIN_PX, 10 - ERASE_MARGIN_PX)
    assert (rows.max() + 1, columns.max() + 1) == (18 + ERASE_MARGIN_PX, 20 + ERASE_MARGIN_PX)
    assert len(rows) == (6 + 2 * ERASE_MARGIN_PX) * (10 + 2 * ERASE_MARGIN_PX)


def test_an_object_is_lost_from_half_of_it_on() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [6, 0, 16, 10]])
    assert lost_objects(boxes, np.array([True, False, False])).tolist() == [True, True, False]
