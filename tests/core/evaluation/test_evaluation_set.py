"""Which pictures, objects and classes engines are judged on."""

import pandas as pd
import pytest

from kd_steps.core.evaluation.evaluation_set import evaluation_set

IMAGES = pd.DataFrame(
    {
        "image_id": ["a", "b", "c", "d"],
        "split": ["train", "test", "defect_free", "test"],
        "path": ["a.png", "b.png", "c.png", "d.png"],
        "group": ["1", "2", "3", "2"],
    }
)
BOXES = pd.DataFrame({"image_id": ["a", "d"], "split": ["train", "test"], "class_id": [0, 1]})


def chosen(engines, images=IMAGES):
    return evaluation_set(images, BOXES, (["bridge", "missing"], ["tombstone"]), "d" * 64, engines)


def test_test_and_defect_free_pictures_with_the_objects_of_the_first():
    found = chosen({"teacher": (["missing", "bridge"], [])})
    assert (found.image_ids("test"), found.image_ids("defect_free")) == (["b", "d"], ["c"])
    assert found.boards("test") == ["2", "2"]
    assert found.objects["image_id"].tolist() == ["d"]


def test_an_engines_new_classes_come_after_those_of_the_data():
    found = chosen({"student": (["bridge", "missing", "fuse"], ["fuse"])})
    assert found.class_names == ("bridge", "missing", "tombstone", "fuse")
    assert found.class_ids(["fuse", "bridge"]) == [3, 0]
    assert found.judged_classes(["fuse"]) == ["bridge", "missing", "fuse"]


def test_other_base_classes_and_no_test_picture_are_told():
    with pytest.raises(ValueError, match=r"engine 'old': its base classes \['bridge'\] are not those .*dvc repro"):
        chosen({"old": (["bridge", "fuse"], ["fuse"])})
    with pytest.raises(ValueError, match=r"no picture in the split 'test'; see prepare\.splits"):
        chosen({}, IMAGES[IMAGES["split"] != "test"])
