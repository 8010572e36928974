from pathlib import Path

import numpy as np
import pytest
from yolo_folder import jpeg

from kd_steps.adapters.sources.voc import load_voc

OBJECT = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"


def make_voc(root: Path) -> tuple[Path, Path]:
    pictures, xml = root / "photos", root / "xml files"
    for number, place in enumerate(("train/a", "train/b", "test/a")):
        for folder in (pictures, xml):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (pictures / f"{place}.jpg").write_bytes(jpeg(number))
        body = OBJECT.format("dent" if number else "scratch") if number < 2 else ""
        (xml / f"{place}.xml").write_text(f"<annotation>\n<filename>x</filename>\n{body}\n</annotation>")
    return pictures, xml


def test_pairs_by_folder_and_name(tmp_path: Path) -> None:
    source = load_voc(*make_voc(tmp_path), None)
    assert source.faults == ()
    assert source.classes == ("dent", "scratch")
    assert [(i.image_id, i.split, i.class_names) for i in source.images] == [
        ("test-a", "test", ()),
        ("train-a", "train", ("scratch",)),
        ("b", "train", ("dent",)),
    ]
    np.testing.assert_array_equal(source.images[1].boxes_xyxy_px, [[1, 2.5, 30, 40]])


def test_annotations_in_one_flat_folder_pair_by_unique_name(tmp_path: Path) -> None:
    pictures, xml = make_voc(tmp_path)
    (xml / "train/b.xml").rename(xml / "b.xml")
    assert load_voc(pictures, xml, None).faults == ()


def test_faults_name_file_and_mend(tmp_path: Path) -> None:
    pictures, xml = make_voc(tmp_path)
    (xml / "train/b.xml").rename(xml / "orphan.xml")
    (xml / "test/a.xml").write_text("<annotation>\n<object>\n")
    broken = OBJECT.format("dent").replace("30", "wide")
    (xml / "train/a.xml").write_text(f"<annotation>{OBJECT.format('dent')}{broken}</annotation>")
    faults = load_voc(pictures, xml, None).faults
    told = "\n".join(faults)
    assert len(faults) == 4
    assert "1 pictures have no XML file" in told
    assert "orphan.xml; restore it, or delete the file" in told
    assert "a.xml, line 3: not valid XML" in told
    assert "a.xml, object 2 ('dent'): needs" in told


def test_missing_folders_name_the_key(tmp_path: Path) -> None:
    pictures, xml = make_voc(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"prepare\.source\.voc\.images"):
        load_voc(tmp_path / "none", xml, None)
    with pytest.raises(FileNotFoundError, match="no XML files in it"):
        load_voc(pictures, pictures, None)


def test_a_picture_does_not_get_the_labels_of_its_namesake(tmp_path: Path) -> None:
    pictures, xml = make_voc(tmp_path)
    (xml / "test/a.xml").unlink()
    source = load_voc(pictures, xml, None)
    (fault,) = source.faults
    assert "1 pictures have no XML file" in fault
    assert "test/a.jpg" in fault
    assert [i.image_id for i in source.images] == ["a", "b"]


def test_the_size_that_an_annotation_tells_goes_on(tmp_path: Path) -> None:
    pictures, xml = make_voc(tmp_path)
    size = "<size><width>{}</width><height>40</height></size>"
    (xml / "train/a.xml").write_text(f"<annotation>{size.format(30)}</annotation>")
    (xml / "train/b.xml").write_text(f"<annotation>{size.format(0)}</annotation>")
    found = {i.image_id: i.told_wh_px for i in load_voc(pictures, xml, None).images}
    assert found == {"test-a": None, "train-a": (30, 40), "b": None}


@pytest.mark.parametrize("encoding", ["gb2312", "utf8mb4"])
def test_an_encoding_that_cannot_be_read_is_told_with_the_file(tmp_path: Path, encoding: str) -> None:
    pictures, xml = make_voc(tmp_path)
    (xml / "test/a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?>\n<annotation></annotation>')
    (fault,) = load_voc(pictures, xml, None).faults
    assert "a.xml: its encoding cannot be read" in fault
    assert "save it again in UTF-8" in fault
