"""The note beside a weight file, and the weight file held to it."""

import pytest

from kd_steps.adapters.files import sha256_of, write_json
from kd_steps.adapters.sidecar import read_sidecar, write_sidecar
from kd_steps.artifacts import OtherVersionError, read_json
from kd_steps.edge.contract import ContractMismatchError, PreprocessingContract

CONTRACT = PreprocessingContract(64, 114, "a" * 64, {"numpy": "2"})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"weights")
    write_sidecar(tmp_path, "few_shot", "small", ["a", "b"], ["b"], 7, CONTRACT, "d", {"epochs": 1}, {"from": "x"})
    return tmp_path


def test_round_trip(folder):
    found = read_sidecar(folder)
    assert (found.kind, found.model, found.parameters) == ("few_shot", "small", 7)
    assert (found.classes, found.new_classes) == (("a", "b"), ("b",))
    assert found.sha256 == sha256_of(folder / "weights.pt")
    assert found.contract == CONTRACT
    assert (found.dataset_digest, found.training, found.lineage) == ("d", {"epochs": 1}, {"from": "x"})
    assert read_json(folder / "sidecar.json")["contract_digest"] == CONTRACT.digest


def test_weights_that_are_not_the_notes_are_refused(folder):
    (folder / "weights.pt").write_bytes(b"Weights")
    with pytest.raises(ValueError, match=r"weights\.pt: sha256 is .*, its sidecar says .*; run `dvc checkout`"):
        read_sidecar(folder)
    (folder / "weights.pt").unlink()
    with pytest.raises(ValueError, match=r"weights\.pt: missing"):
        read_sidecar(folder)


def test_a_note_tells_its_version_and_one_of_before_there_were_versions_is_understood(folder):
    told, note = read_sidecar(folder), read_json(folder / "sidecar.json")
    assert next(iter(note.items())) == ("schema", 1)
    write_json(folder / "sidecar.json", {name: note[name] for name in note if name != "schema"})
    assert read_sidecar(folder) == told


def test_a_note_of_another_version_names_file_versions_and_mend(folder):
    write_json(folder / "sidecar.json", {**read_json(folder / "sidecar.json"), "schema": 2})
    with pytest.raises(
        OtherVersionError, match=r"sidecar\.json: written as schema 2, .* schema 1 .*; use .* or remove"
    ):
        read_sidecar(folder)


def test_a_note_with_an_unknown_contract_field_is_refused(folder):
    note = read_json(folder / "sidecar.json")
    write_json(folder / "sidecar.json", {**note, "contract": {**note["contract"], "gamma": 1}})
    with pytest.raises(ContractMismatchError, match="gamma"):
        read_sidecar(folder)
