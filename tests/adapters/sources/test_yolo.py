from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from yolo_folder import LINE, jpeg, make_yolo

from kd_steps.adapters.data.images import decode_bgr
from kd_steps.adapters.sources.yolo import load_yolo


def test_declared_splits_classes_and_boxes(tmp_path: Path) -> None:
    source = load_yolo(make_yolo(tmp_path), None)
    assert source.faults == ()
    assert source.classes == ("scratch", "dent")
    assert [sum(i.split == s for i in source.images) for s in ("train", "val", "test")] == [12, 3, 4]
    np.testing.assert_allclose(source.images[1].boxes_xyxy_px, [[24, 24, 40, 40]])
    assert source.images[0].class_names == ("dent",)
    assert source.images[0].read() == (tmp_path / "images/train/train0.jpg").read_bytes()


@pytest.mark.parametrize(
    "config",
    [
        "train: [images/train]\nval: images/val\ntest: images/test\nnames: [scratch, dent]",
        "path: .\ntrain: ../images/train\nval: ../images/val\ntest: ../images/test\nnc: 2\nnames: [scratch, dent]",
        "names: [scratch, dent]",
    ],
)
def test_ways_to_declare_splits(tmp_path: Path, config: str) -> None:
    make_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(config)
    images = load_yolo(tmp_path, None).images
    assert [sum(i.split == s for i in images) for s in ("train", "val", "test")] == [12, 3, 4]


def test_a_text_list_of_pictures(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    (tmp_path / "train.txt").write_text("./images/train/train1.jpg\nimages/train/train2.jpg\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nval: images/val\ntest: images/test\nnames: [a, b]")
    assert [i.image_id for i in load_yolo(tmp_path, None).images if i.split == "train"] == ["train1", "train2"]
    (tmp_path / "train.txt").write_text("images/train/train1.jpg\nimages/train/gone.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"train\.txt, line 2: .*gone\.jpg does not exist"):
        load_yolo(tmp_path, None)


def test_flat_and_nested_folders_leave_the_cut_to_retort(tmp_path: Path) -> None:
    for number, place in enumerate(("board1/a", "board1/b", "board2/a", "c")):
        for kind, content in (("images", jpeg(number)), ("labels", LINE.encode())):
            path = (tmp_path / kind / place).with_suffix(".jpg" if kind == "images" else ".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (tmp_path / "data.yaml").write_text("names: [a]")
    source = load_yolo(tmp_path, None)
    assert source.faults == ()
    assert {i.split for i in source.images} == {None}
    assert [i.group for i in source.images] == ["board1", "board1", "board2", "images/c"]
    assert len({i.image_id for i in source.images}) == 4


def test_missing_data_yaml_shows_one_that_would_do(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"data\.yaml: no such file; this one would do:") as caught:
        load_yolo(tmp_path, None)
    (tmp_path / "data.yaml").write_text(str(caught.value).split("\n\n", 1)[1])
    source = load_yolo(tmp_path, None)
    assert len(source.classes) == 2
    assert len(source.images) == 19


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("train: images/train", "'names' is missing"),
        ("names: {0: a, 2: b}", "ids must be 0 to 1"),
        ("names: [a, a]", "more than once"),
        ("nc: 3\nnames: [a, b]", "nc is 3, but 2 classes"),
        ("names: [a, b]\ntrain: nowhere", "train: .*nowhere does not exist"),
        ("names: [a", "not valid YAML"),
    ],
)
def test_a_bad_data_yaml_names_the_key(tmp_path: Path, config: str, told: str) -> None:
    make_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(config)
    with pytest.raises((ValueError, FileNotFoundError), match=told) as caught:
        load_yolo(tmp_path, None)
    assert str(tmp_path / "data.yaml") in str(caught.value)


def test_pictures_without_labels_and_the_reverse(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    (tmp_path / "labels/train/train3.txt").unlink()
    (tmp_path / "images/test/test0.jpg").unlink()
    faults = load_yolo(tmp_path, None).faults
    assert len(faults) == 2
    assert "1 pictures have no label file" in faults[0]
    assert "train3.jpg" in faults[0]
    assert "an empty .txt file says 'no objects'" in faults[0]
    assert "1 label files have no picture" in faults[1]
    assert "test0.txt" in faults[1]


def test_all_bad_label_lines_are_told_at_once(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    (tmp_path / "labels/train/train3.txt").write_text(LINE + "0 0.5 0.5 0.1\n")
    (tmp_path / "labels/val/val0.txt").write_text("7 0.5 0.5 0.1 0.1\n0 nan 0.5 0.1 0.1\n")
    faults = load_yolo(tmp_path, None).faults
    assert [fault.split(": ")[0].rsplit("/", 1)[1] for fault in faults] == [
        "train3.txt, line 2",
        "val0.txt, line 1",
        "val0.txt, line 2",
    ]


def test_a_rotated_photograph_has_its_displayed_size(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    target = tmp_path / "images/train/train0.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40), (9, 9, 9)).save(target, exif=exif)
    image = load_yolo(tmp_path, None).images[0]
    np.testing.assert_allclose(image.boxes_xyxy_px, [[15, 30, 25, 50]])
    assert cv2.imread(str(target), cv2.IMREAD_COLOR).shape == (80, 40, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_rotated_photograph_of_any_kind_has_its_displayed_size(tmp_path: Path, suffix: str) -> None:
    """Pillow turns the size of a TIFF by itself, of the others it does not."""
    make_yolo(tmp_path)
    target = tmp_path / f"images/train/turned{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(target, exif=exif)
    (tmp_path / "labels/train/turned.txt").write_text("0 0.5 0.5 1 1\n")
    (image,) = [i for i in load_yolo(tmp_path, None).images if i.image_id == "turned"]
    np.testing.assert_allclose(image.boxes_xyxy_px, [[0, 0, 40, 80]])
    assert decode_bgr(image.read(), image.picture).shape == (80, 40, 3)


def boards_of(folder: Path) -> dict[str, set[str]]:
    """The boards of each split."""
    images = load_yolo(folder, None).images
    return {str(split): {i.group for i in images if i.split == split} for split in {i.split for i in images}}


def test_pictures_that_lie_elsewhere_have_boards_of_their_own(tmp_path: Path) -> None:
    """``path`` may point anywhere; a folder named ``test`` on the way there says nothing."""
    data, config = make_yolo(tmp_path / "test/mine"), tmp_path / "config"
    config.mkdir()
    text = (data / "data.yaml").read_text()
    (config / "data.yaml").write_text(f"path: ../test/mine\n{text}")
    found = boards_of(config)
    assert {split: len(boards) for split, boards in found.items()} == {"train": 12, "val": 3, "test": 4}
    assert not found["train"] & found["test"]
    (config / "data.yaml").write_text("train: list.txt\nval: ../test/mine/images/val\nnames: [scratch, dent]\n")
    pictures = sorted((data / "images/train").iterdir())
    (config / "list.txt").write_text("\n".join(map(str, pictures)))
    assert len(boards_of(config)["train"]) == 12


def test_a_splits_own_folder_is_no_board_and_several_may_be(tmp_path: Path) -> None:
    data = make_yolo(tmp_path)
    for kind in ("images", "labels"):
        (data / kind / "test").rename(data / kind / "test2017")
    (data / "data.yaml").write_text("train: images/train\nval: images/val\ntest: images/test2017\nnames: [a, b]\n")
    assert len(boards_of(data)["test"]) == 4
    for number, board in enumerate(("a", "b")):
        for kind, suffix in (("images", "jpg"), ("labels", "txt")):
            (data / kind / board).mkdir()
            for picture in range(2):
                found = data / kind / "test2017" / f"test{2 * number + picture}.{suffix}"
                found.rename(data / kind / board / f"same{picture}.{suffix}")  # names that repeat between boards
    (data / "data.yaml").write_text("train: images/train\ntest: [images/a, images/b]\nnames: [a, b]\n")
    assert boards_of(data)["test"] == {"a", "b"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data.yaml").write_text(f"path: {data}\n" + (data / "data.yaml").read_text())
    assert boards_of(elsewhere)["test"] == {"a", "b"}
    assert len({i.image_id for i in load_yolo(elsewhere, None).images}) == 16


def test_a_board_in_two_lists_is_one_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, config = make_yolo(tmp_path / "data"), tmp_path / "config"
    config.mkdir()
    for kind in ("images", "labels"):
        (data / kind / "train").rename(data / kind / "a")
    pictures = sorted((data / "images/a").iterdir())
    (config / "train.txt").write_text("\n".join(map(str, [*pictures[:6], *sorted((data / "images/val").iterdir())])))
    (config / "test.txt").write_text("\n".join(map(str, pictures[6:])))
    (config / "data.yaml").write_text("train: train.txt\ntest: test.txt\nnames: [a, b]\n")
    found = boards_of(config)
    assert found["test"] == {"a"}
    assert found["test"] < found["train"]
    monkeypatch.chdir(tmp_path)  # a folder named from here, and lists of whole paths
    text = "train: train.txt\ntest: [../data/images/a/train9.jpg.txt, test.txt]\nnames: [a, b]\n"
    (data / "images/a/train9.jpg.txt").write_text("")
    (config / "data.yaml").write_text(text)
    assert boards_of(Path("config")) == found


def test_an_undeclared_folder_of_defect_free_boards_is_told(tmp_path: Path) -> None:
    (make_yolo(tmp_path) / "images/defect_free").mkdir()
    (told,) = load_yolo(tmp_path, None).warnings
    assert "images/defect_free is left alone" in told


def test_linked_pictures_are_where_their_links_are(tmp_path: Path) -> None:
    """As DVC's own checkouts may be."""
    data, store = make_yolo(tmp_path / "data"), tmp_path / "test/cache"
    store.mkdir(parents=True)
    for number, path in enumerate(sorted((data / "images").rglob("*.jpg"))):
        path.rename(store / f"{number}")
        path.symlink_to(store / f"{number}")
    assert {split: len(boards) for split, boards in boards_of(data).items()} == {"train": 12, "val": 3, "test": 4}


def test_defect_free_boards_may_be_a_split(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    for kind in ("images", "labels"):
        (tmp_path / kind / "good").mkdir()
    (tmp_path / "images/good/g.jpg").write_bytes(jpeg(99))
    (tmp_path / "labels/good/g.txt").touch()
    (tmp_path / "data.yaml").write_text((tmp_path / "data.yaml").read_text() + "defect_free: images/good\n")
    assert [i.image_id for i in load_yolo(tmp_path, None).images if i.split == "defect_free"] == ["g"]


def test_a_picture_in_two_splits_is_told_with_both(tmp_path: Path) -> None:
    """As sets for a first try have it, whose val is their train."""
    make_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [scratch, dent]\n")
    with pytest.raises(ValueError, match=r"train0\.jpg stands under 'train' and under 'val'; give each split"):
        load_yolo(tmp_path, None)


@pytest.mark.parametrize("names", ["{0: 0402, 1: 0603}", "[NO, YES]", "{0: a, x: b}"])
def test_names_that_yaml_reads_as_something_else_are_refused(tmp_path: Path, names: str) -> None:
    make_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
    with pytest.raises(ValueError, match=r"data\.yaml: names: (YAML reads .* put each name in quotes|the ids must be)"):
        load_yolo(tmp_path, None)


def test_byte_order_marks_capital_suffixes_and_other_encodings(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    labels = tmp_path / "labels/train"
    (labels / "train0.txt").write_bytes("\ufeff1 0.5 0.5 0.25 0.25\n".encode())
    (labels / "train1.txt").rename(labels / "train1.TXT")
    (labels / "train2.txt").write_bytes("0 0.5 0.5 0.25 0.25 \u00e9\n".encode("latin-1"))
    (tmp_path / "data.yaml").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "data.yaml").read_bytes())
    source = load_yolo(tmp_path, None)
    (fault,) = source.faults
    assert "train2.txt: not a text file in UTF-8" in fault
    assert [i.class_names for i in source.images[:2]] == [("dent",), ("scratch",)]
