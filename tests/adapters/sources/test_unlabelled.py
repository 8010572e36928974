from pathlib import Path

import pytest
from yolo_folder import jpeg

from kd_steps.adapters.sources.unlabelled import load_unlabelled


def make_line(root: Path) -> Path:
    for number, name in enumerate(("b07_1.jpg", "shift/b07_1.PNG", "shift/late/free.webp", "shift/late/free.txt")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(number))
    (root / "a folder.jpg").mkdir()
    return root


def test_every_picture_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    found = load_unlabelled(make_line(tmp_path), None)
    assert [(i.image_id, i.suffix) for i in found] == [
        ("unlabelled-b07_1", ".jpg"),
        ("unlabelled-shift-b07_1", ".png"),
        ("unlabelled-free", ".webp"),
    ]
    assert all(i.split == "unlabelled" and i.class_names == () and i.boxes_xyxy_px.shape == (0, 4) for i in found)
    assert [i.read() for i in found] == [Path(i.origin).read_bytes() for i in found]
    assert len({i.group for i in found}) == 3


def test_the_pattern_names_boards_where_it_matches(tmp_path: Path) -> None:
    groups = [i.group for i in load_unlabelled(make_line(tmp_path), r"(b\d+)_")]
    assert groups == ["b07", "b07", "unlabelled-free"]


@pytest.mark.parametrize("pattern", ["(", "b07"])
def test_a_bad_pattern_names_its_key(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match=r"prepare\.splits\.group_pattern"):
        load_unlabelled(make_line(tmp_path), pattern)


def test_no_folder_or_no_picture_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(FileNotFoundError, match=r"no pictures .* mend prepare\.unlabelled\.path in params\.yaml"):
        load_unlabelled(tmp_path, None)
    for missing in (tmp_path / "none", tmp_path / "labels.txt"):
        with pytest.raises(FileNotFoundError, match=r"no such folder; set prepare\.unlabelled\.path in params\.yaml"):
            load_unlabelled(missing, None)
