"""The prepared data set as training reads it."""

import numpy as np
import pandas as pd
import pytest
from prepared import CLASSES, NEW_CLASSES, write_prepared

from kd_steps.adapters.files import sha256_of
from kd_steps.adapters.prepared import load_prepared


def test_pictures_of_a_split_with_their_objects(training_project):
    root = training_project / "data/prepared"
    found = load_prepared(root)
    assert (found.classes, found.new_classes) == (tuple(CLASSES), tuple(NEW_CLASSES))
    train = found.split("train")
    assert [image.digest for image in train] == sorted(image.digest for image in train)
    assert len(train) == 8
    for image in train:
        assert image.digest == sha256_of(image.path)
        label = root / "labels/train" / f"{image.path.stem}.txt"
        lines = np.loadtxt(label, ndmin=2)
        assert image.class_ids.tolist() == lines[:, 0].astype(int).tolist()
        assert np.allclose(image.boxes_xywh, lines[:, 1:], atol=1e-6)
    assert all(len(image.class_ids) == 0 for image in found.split("defect_free"))


def test_an_empty_split_is_told(training_project, tmp_path):
    images = pd.read_parquet(training_project / "data/prepared/images.parquet")
    for name in ("dataset.json", "boxes.parquet"):
        (tmp_path / name).write_bytes((training_project / "data/prepared" / name).read_bytes())
    images[images["split"] != "val"].to_parquet(tmp_path / "images.parquet")
    with pytest.raises(ValueError, match=r"the split 'val' is empty; see prepare\.splits in params\.yaml"):
        load_prepared(tmp_path).split("val")


def test_without_prepare_the_mend_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset\.json: no such file; `dvc repro` makes it"):
        load_prepared(tmp_path)


def test_a_student_trains_on_the_train_split_and_what_is_unlabelled(tmp_path):
    write_prepared(tmp_path, {"train": 5, "val": 1, "unlabelled": 3}, (64, 64))
    found = load_prepared(tmp_path)
    pictures = found.training_pictures()
    assert [image.digest for image in pictures] == sorted(image.digest for image in pictures)
    assert sorted(image.path.parent.name for image in pictures) == ["train"] * 5 + ["unlabelled"] * 3
    assert all(image.labelled == (image.path.parent.name == "train") for image in pictures)
    assert {image.path.parent.name for image in found.split("train")} == {"train"}


def test_without_unlabelled_pictures_a_student_trains_on_the_train_split(training_project):
    found = load_prepared(training_project / "data/prepared")
    assert [image.path for image in found.training_pictures()] == [image.path for image in found.split("train")]
