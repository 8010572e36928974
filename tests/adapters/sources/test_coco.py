import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from yolo_folder import jpeg

from kd_steps.adapters.sources.coco import load_coco


def content() -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "train/a.jpg"}, {"id": 9, "file_name": "test/b.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 30, "bbox": [1, 2, 10, 20]},
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
        "categories": [{"id": 30, "name": "dent"}, {"id": 4, "name": "scratch"}],
    }


def make_coco(root: Path, values: dict[str, Any]) -> tuple[Path, Path]:
    for number, place in enumerate(("train/a.jpg", "test/b.jpg")):
        (root / "photos" / place).parent.mkdir(parents=True, exist_ok=True)
        (root / "photos" / place).write_bytes(jpeg(number))
    (root / "instances.json").write_text(json.dumps(values, indent=1))
    return root / "photos", root / "instances.json"


def test_boxes_classes_splits_and_crowds(tmp_path: Path) -> None:
    source = load_coco(*make_coco(tmp_path, content()), None)
    assert source.faults == ()
    assert source.classes == ("scratch", "dent")
    assert [(i.image_id, i.split, i.class_names) for i in source.images] == [
        ("a", "train", ("dent",)),
        ("b", "test", ()),
    ]
    np.testing.assert_array_equal(source.images[0].boxes_xyxy_px, [[1, 2, 11, 22]])
    assert source.warnings == ("1 crowd regions (iscrowd) were skipped",)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    values = content()
    values["images"][1]["file_name"] = "test/gone.jpg"
    values["annotations"] += [
        {"id": 3, "image_id": 7, "category_id": 5, "bbox": [1, 2, 10, 20]},
        {"id": 4, "image_id": 7, "category_id": 4, "bbox": [1, 2, 10]},
        {"id": 5, "image_id": 8, "category_id": 4, "bbox": [1, 2, 10, 9]},
    ]
    told = "\n".join(load_coco(*make_coco(tmp_path, values), None).faults)
    assert "annotation 3: category 5 is not in 'categories'" in told
    assert "annotation 4: bbox needs four numbers" in told
    assert "annotations of images that 'images' does not list: ids 8" in told
    assert "gone.jpg; restore them" in told
    assert "b.jpg; list them" in told


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_missing_list_or_field_is_named(tmp_path: Path, key: str) -> None:
    values = content()
    del values[key][0][{"images": "file_name", "annotations": "bbox", "categories": "name"}[key]]
    with pytest.raises(ValueError, match=rf"{key}, entry 1: (file_name|bbox|name) missing"):
        load_coco(*make_coco(tmp_path, values), None)
    del values[key]
    with pytest.raises(ValueError, match=f"the list '{key}' is missing"):
        load_coco(*make_coco(tmp_path, values), None)


def test_broken_json_names_the_line(tmp_path: Path) -> None:
    photos, path = make_coco(tmp_path, content())
    path.write_text(path.read_text()[:200])
    with pytest.raises(ValueError, match=r"instances\.json, line \d+: not valid JSON"):
        load_coco(photos, path, None)


@pytest.mark.parametrize(
    ("categories", "told"),
    [
        ([{"id": 30, "name": "short"}, {"id": 4, "name": "short"}], r"categories: name \['short'\] stands there more"),
        ([{"id": 4, "name": "dent"}, {"id": 4, "name": "short"}], r"categories: id \[4\] stands there more than once"),
        ([{"id": [4], "name": "dent"}], "categories, entry 1: id is neither a number nor text"),
        ([{"id": 4, "name": None}], r"the names \[None\] are no text"),
        ([{"id": 4, "name": ["dent"]}], r"the names \[\['dent'\]\] are no text"),
    ],
)
def test_categories_that_are_not_told_apart_are_refused(tmp_path: Path, categories: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        load_coco(*make_coco(tmp_path, content() | {"categories": categories}), None)


def test_ids_of_two_kinds_have_an_order(tmp_path: Path) -> None:
    values = content() | {"categories": [{"id": "30", "name": "dent"}, {"id": 4, "name": "scratch"}, *THIRTY]}
    assert load_coco(*make_coco(tmp_path, values), None).classes == ("dent", "bridge", "scratch")


THIRTY = [{"id": 30, "name": "bridge"}]


def test_what_the_file_says_of_a_picture_goes_on(tmp_path: Path) -> None:
    values = content()
    values["images"][0] |= {"width": 100, "height": 60}
    values["images"][1] |= {"width": 0, "height": 0}  # as tools write it that do not know
    values["annotations"].append({"id": 3, "image_id": 9, "category_id": 4, "bbox": [0, 0, 5, 5], "iscrowd": 1})
    first, second = load_coco(*make_coco(tmp_path, values), None).images
    assert (first.told_wh_px, second.told_wh_px) == ((100, 60), None)
    assert second.unsure, "a crowd without boxes is no defect-free board"


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    photos, path = make_coco(tmp_path, content())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_coco(photos, path, None).faults == ()
    path.write_bytes(path.read_bytes().replace(b"dent", b"d\xe9nt"))
    with pytest.raises(ValueError, match=r"instances\.json: not a text file in UTF-8"):
        load_coco(photos, path, None)
