import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.data.naming import board_of, picture_ids, split_of


def test_ids_are_stems_where_they_are_unique() -> None:
    assert picture_ids(["train/a.jpg", "val/a.jpg", "val/b c.png"]) == ["train-a", "val-a", "b-c"]
    assert picture_ids(["a.jpg", "a.png"]) == ["a-jpg", "a-png"]


def test_names_without_plain_letters_are_told_apart() -> None:
    ids = picture_ids(["左.png", "右.png", "a左.png", "a.png"])
    assert len(set(ids)) == 4
    assert ids == picture_ids(["左.png", "右.png", "a左.png", "a.png"])


@given(st.lists(st.from_regex(r"[a-z ü]{1,4}(/[a-z ü]{1,4})?\.(jpg|png)", fullmatch=True), unique=True))
def test_ids_are_safe_file_names(paths: list[str]) -> None:
    for name in picture_ids(paths):
        assert name
        assert all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name)


@pytest.mark.parametrize(
    ("path", "pattern", "board"),
    [
        ("images/train/board7/3.jpg", None, "board7"),
        ("images/train/3.jpg", None, "images/train/3"),
        ("lot1/board7/3.jpg", None, "lot1/board7"),
        ("x/pcb12_04.jpg", r"^(pcb\d+)_", "pcb12"),
    ],
)
def test_board(path: str, pattern: str | None, board: str) -> None:
    assert board_of(path, pattern) == board


@pytest.mark.parametrize(
    ("pattern", "told"),
    [("(", "not a regular expression"), (r"\d+", "has no group"), (r"^(x)", "does not match the file name")],
)
def test_a_bad_pattern_names_the_key(pattern: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        board_of("a/1.jpg", pattern)
    assert "prepare.splits.group_pattern" in str(caught.value)


def test_split_folders() -> None:
    assert [split_of(p) for p in ("train/a.jpg", "images/Valid/a.jpg", "x/test/b/a.jpg", "train.jpg")] == [
        "train",
        "val",
        "test",
        None,
    ]
