import os
from pathlib import Path

import numpy as np
import pytest
from yolo_folder import jpeg

from kd_steps.adapters.sources.deeppcb import CLASSES, load_deeppcb, parse_annotation

needs_deeppcb = pytest.mark.skipif(
    "RETORT_DEEPPCB" not in os.environ, reason="RETORT_DEEPPCB names no DeepPCB folder (the real boards)"
)


def make_deeppcb(root: Path) -> Path:
    base = root / "PCBData"
    lists: dict[str, list[str]] = {"trainval.txt": [], "test.txt": []}
    for number in range(4):
        folder = base / "group00001"
        for kind in ("00001", "00001_not"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for index, kind in enumerate(("test", "temp")):
            (folder / "00001" / f"{number}_{kind}.jpg").write_bytes(jpeg(2 * number + index))
        (folder / "00001_not" / f"{number}.txt").write_text("1 2 30 40 6\n5 5 9 9 1")
        line = f"group00001/00001/{number}.jpg group00001/00001_not/{number}.txt"
        lists["trainval.txt" if number < 3 else "test.txt"].append(line)
    for name, lines in lists.items():
        (base / name).write_text("\n".join(lines))
    return base


def test_authors_split_has_the_test_templates_as_defect_free_boards(tmp_path: Path) -> None:
    base = make_deeppcb(tmp_path)
    for folder in (tmp_path, base):
        source = load_deeppcb(folder, "authors")
        assert [(i.image_id, i.split) for i in source.images] == [
            ("0", "train"),
            ("1", "train"),
            ("2", "train"),
            ("3", "test"),
            ("3_temp", "defect_free"),
        ]
    first = source.images[0]
    assert first.class_names == ("pin-hole", "open")
    np.testing.assert_array_equal(first.boxes_xyxy_px, [[1, 2, 30, 40], [5, 5, 9, 9]])
    assert first.template is not None
    assert first.template() == (base / "group00001/00001/0_temp.jpg").read_bytes()


def test_split_by_group_leaves_the_cut_to_retort(tmp_path: Path) -> None:
    make_deeppcb(tmp_path)
    images = load_deeppcb(tmp_path, "group").images
    assert [i.split for i in images] == [None] * 4 + ["defect_free"] * 4
    assert {i.group for i in images} == {"00001"}


def test_faults_name_the_list_and_the_line(tmp_path: Path) -> None:
    base = make_deeppcb(tmp_path)
    (base / "group00001/00001/1_temp.jpg").unlink()
    (base / "group00001/00001_not/2.txt").write_text("1 2 3 4 1\n1 2 3 4 9\n1 2 3\n")
    told = load_deeppcb(tmp_path, "authors").faults
    assert len(told) == 3
    assert "trainval.txt, line 2: names" in told[0]
    assert "1_temp.jpg, which does not exist" in told[0]
    assert "2.txt, line 2: expected 'x1 y1 x2 y2 type'" in told[1]
    assert "2.txt, line 3" in told[2]
    (base / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.txt: no such file; the folder must hold PCBData/"):
        load_deeppcb(tmp_path, "authors")


def test_annotations_of_no_objects() -> None:
    boxes, names, faults = parse_annotation("\n", "a.txt")
    assert boxes.shape == (0, 4)
    assert (names, faults) == ((), [])


@needs_deeppcb
def test_the_real_boards_have_the_published_counts() -> None:
    source = load_deeppcb(Path(os.environ["RETORT_DEEPPCB"]), "authors")
    assert source.faults == ()
    counts = {split: [i for i in source.images if i.split == split] for split in ("train", "test", "defect_free")}
    assert [len(images) for images in counts.values()] == [1000, 500, 500]
    assert [sum(len(i.class_names) for i in images) for images in counts.values()] == [6873, 3140, 0]
    assert {name for i in source.images for name in i.class_names} == set(CLASSES)
