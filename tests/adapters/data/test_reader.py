"""The prepared data set as training reads it."""

import numpy as np
import pandas as pd
import pytest
from prepared import CLASSES, NEW_CLASSES, write_prepared, write_unlabelled

from kd_steps.adapters.data.reader import distillation_set, load_prepared, load_unlabelled
from kd_steps.adapters.files import sha256_of


def test_pictures_of_a_split_with_their_objects(training_project):
    root = training_project / "data/prepared"
    found = load_prepared(root)
    assert (found.classes, found.new_classes, found.numbers) == (tuple(CLASSES), tuple(NEW_CLASSES), (0, 1))
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


def test_a_distilled_student_trains_on_the_train_split_and_what_is_unlabelled(tmp_path):
    write_prepared(tmp_path / "prepared", {"train": 5, "val": 1, "unlabelled": 3}, (64, 64))
    prepared, unlabelled = load_prepared(tmp_path / "prepared"), load_unlabelled(tmp_path / "unlabelled")
    data = distillation_set(prepared, unlabelled)
    assert [image.digest for image in data.pictures] == sorted(image.digest for image in data.pictures)
    places = sorted(image.path.relative_to(tmp_path).parent.as_posix() for image in data.pictures)
    assert places == ["prepared/images/train"] * 5 + ["unlabelled/images"] * 3
    assert all(image.path.is_file() and image.labelled == ("train" in image.path.parts) for image in data.pictures)
    assert {image.path.parent.name for image in prepared.split("train")} == {"train"}
    write_unlabelled(tmp_path / "unlabelled", 2, (64, 64))
    fewer = distillation_set(prepared, load_unlabelled(tmp_path / "unlabelled"))
    assert len({prepared.digest, data.digest, fewer.digest}) == 3


def test_without_unlabelled_pictures_a_student_trains_on_the_train_split(training_project):
    prepared = load_prepared(training_project / "data/prepared")
    data = distillation_set(prepared, load_unlabelled(training_project / "data/unlabelled"))
    assert [image.path for image in data.pictures] == [image.path for image in prepared.split("train")]
    assert data.digest == prepared.digest
