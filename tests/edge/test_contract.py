"""The preprocessing contract as a value."""

from dataclasses import replace

import pytest

from kd_steps.edge.contract import ContractMismatchError, PreprocessingContract, canonical_digest, require_same

CONTRACT = PreprocessingContract(256, 114, "a" * 64, {"opencv": "4.12.0"})


def test_it_goes_through_json_unchanged_and_a_digest_tells_every_field():
    again = PreprocessingContract.from_dict(CONTRACT.to_dict())
    assert again == CONTRACT
    assert again.digest == CONTRACT.digest
    others = {**CONTRACT.to_dict(), "mean": [0.1, 0.0, 0.0]}, {**CONTRACT.to_dict(), "library_versions": {}}
    assert len({CONTRACT.digest, *(PreprocessingContract.from_dict(other).digest for other in others)}) == 3


def test_the_order_of_keys_does_not_count():
    assert canonical_digest({"a": 1, "b": [2]}) == canonical_digest({"b": [2], "a": 1}) != canonical_digest({"a": 1})


def test_a_difference_is_told_with_both_values():
    require_same(CONTRACT, replace(CONTRACT), "the cache")
    with pytest.raises(
        ContractMismatchError, match=r"the cache was made .*\(imgsz_px: 256 against 320\); make it again"
    ):
        require_same(CONTRACT, replace(CONTRACT, imgsz_px=320), "the cache")


@pytest.mark.parametrize("change", [lambda values: values.pop("std"), lambda values: values.update(gamma=1)])
def test_unknown_and_missing_fields_are_told(change):
    values = CONTRACT.to_dict()
    change(values)
    with pytest.raises(ContractMismatchError, match=r"\['(std|gamma)'\] are missing or unknown; export"):
        PreprocessingContract.from_dict(values)
