"""The header of a teacher cache."""

import json
from dataclasses import fields, replace

import pytest

from kd_steps.core.cache_header import CacheHeader

HEADER = CacheHeader("t", "c", "a", "d", 0, 7, 2, ("x", "y"), 16, "float16", 0.01, 300, "bf16", {"torch": "2"})
OTHERS = {
    "teacher_sha256": "T",
    "contract_digest": "C",
    "augmentation_digest": "A",
    "dataset_digest": "D",
    "seed": 1,
    "views": 8,
    "closing_views": 3,
    "classes": ("y", "x"),
    "bins": 1,
    "box_bins": "int8",
    "score_threshold": 0.02,
    "max_anchors": 100,
    "precision": "fp32",
    "library_versions": {"torch": "3"},
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
