"""The header of a teacher cache."""

import json
from dataclasses import fields, replace

import pytest

from kd_steps.core.cache.header import CacheHeader, as_today

HEADER = CacheHeader(
    teacher_sha256="t",
    contract_digest="c",
    augmentation_digest="a",
    dataset_digest="d",
    imgsz_px=64,
    seed=0,
    views=7,
    closing_views=2,
    classes=("x", "y"),
    bins=16,
    two_branches=False,
    cells=(64, 16, 4),
    neck_channels=(32, 64, 128),
    score_threshold=0.01,
    max_anchors=300,
    attention=True,
    pooled=False,
    max_vectors=0,
    pixels=True,
    library_versions={"torch": "2"},
    recipe={"views": 1, "answers": 1},
)
OTHERS = {
    "teacher_sha256": "T",
    "contract_digest": "C",
    "augmentation_digest": "A",
    "dataset_digest": "D",
    "imgsz_px": 96,
    "seed": 1,
    "views": 8,
    "closing_views": 3,
    "classes": ("y", "x"),
    "bins": 1,
    "two_branches": True,
    "cells": (64, 16),
    "neck_channels": (32, 64, 256),
    "score_threshold": 0.02,
    "max_anchors": 100,
    "attention": False,
    "pooled": True,
    "max_vectors": 20,
    "pixels": False,
    "library_versions": {"torch": "3"},
    "recipe": {"views": 1, "answers": 2},
}


def test_survives_json():
    assert HEADER.differences(json.loads(json.dumps(HEADER.to_dict()))) == []


@pytest.mark.parametrize("field", [field.name for field in fields(CacheHeader)])
def test_every_field_counts_and_is_named_with_both_values(field):
    (told,) = HEADER.differences(replace(HEADER, **{field: OTHERS[field]}).to_dict())
    assert told.startswith(f"{field}: ")
    assert " against " in told


def test_a_missing_or_foreign_field_is_a_difference():
    stored = HEADER.to_dict()
    del stored["seed"]
    assert HEADER.differences({**stored, "odd": 1}) == ["seed: 0 against None", "odd: None against 1"]


def test_a_header_of_before_recipe_numbers_is_told_as_todays():
    """What the last release wrote: a layout, and versions with the build that they came from."""
    stored = {**HEADER.to_dict(), "layout": 6, "library_versions": {"torch": "2+cpu"}}
    del stored["recipe"]
    assert HEADER.differences(as_today(stored)) == []
    assert HEADER.differences(as_today({**stored, "layout": 5})) != []
    assert as_today(HEADER.to_dict()) == HEADER.to_dict()


def test_pixels_take_a_byte_a_channel():
    assert HEADER.pixel_bytes == 3 * 64 * 64
