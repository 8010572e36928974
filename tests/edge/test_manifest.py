"""Engine folders that are not what they say are refused before a runtime opens a file."""

import json
import platform

import pytest
from engine_fixture import classes_of, rewrite_manifest

from kd_steps.edge.contract import ContractMismatchError
from kd_steps.edge.detector import Detector
from kd_steps.edge.manifest import Manifest, ManifestError, read_manifest, this_machine
from kd_steps.edge.verification import verified_manifest

ENGINES = {
    "teacher": ["golden.npz", "model.onnx"],
    "onnx-fp32": ["golden.npz", "model.onnx"],
    "ort-cpu-int8": ["golden.npz", "model.onnx"],
    "openvino-fp16": ["golden.npz", "model.bin", "model.xml"],
}


@pytest.mark.parametrize("name", ENGINES)
def test_a_built_engine_is_verified_and_its_manifest_survives_a_round_trip(engines_dir, name):
    manifest = verified_manifest(engines_dir / name)
    assert (manifest.name, list(manifest.classes), sorted(manifest.files)) == (name, classes_of(name), ENGINES[name])
    assert manifest.new_classes == (() if name == "teacher" else ("tombstone",))
    stored = json.loads((engines_dir / name / "manifest.json").read_text())
    assert Manifest.from_dict(stored).to_dict() == stored


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in ENGINES.items() for file in files])
def test_a_flipped_bit_is_refused_with_the_files_name(own_engine, name, file):
    folder = own_engine(name)
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(ManifestError, match=rf"{file} has another sha256"):
        Detector.load(folder)


def test_every_fault_of_the_files_is_named_at_once(own_engine):
    folder = own_engine("openvino-fp16")
    (folder / "model.bin").unlink()
    (folder / "model.xml").write_bytes(b"<net/>")
    (folder / "sub").mkdir()
    (folder / "sub/note.txt").touch()
    with pytest.raises(ManifestError) as refused:
        verified_manifest(folder)
    for part in ("model.bin is missing", "model.xml has 6 bytes, expected", "sub/note.txt is not in the manifest"):
        assert part in str(refused.value)


def test_no_manifest_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "expected an object"),
        ("\x00", "Expecting value"),
        ('{"schema": 1}', "schema is 1"),
        ('{"schema": 3, "colour": 1}', "colour"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=message) as refused:
        read_manifest(tmp_path)
    assert "manifest.json" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"../weights.pt": {"sha256": "0", "bytes": 1}}}, "not plain names"),
        ({"files": {"model.onnx": {"sha256": "0"}}}, "bytes"),
        ({"runtime": "tensorrt"}, "runtime"),
        ({"state": "perfect"}, "state"),
        ({"output_format": "boxes"}, "output_format"),
        ({"task": "segment"}, "task 'segment'"),
        ({"columns": [0, 1]}, "columns"),
        ({"columns": [0, 1, 1]}, "columns"),
        ({"columns": [0, 1, -1]}, "columns"),
        ({"columns": [0, 1, 2.0]}, "columns"),
        ({"engine_digest": "0" * 64}, "engine_digest is 000"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"new_classes": ["crack"]}, "crack"),
        ({"golden": {"file": "none.npz", "images": 1, "tolerance": 0.1}}, r"none\.npz"),
        ({"classes": None}, r"manifest\.json"),
    ],
)
def test_impossible_values_are_refused(own_engine, changes, message):
    folder = own_engine("onnx-fp32")
    rewrite_manifest(folder, **changes)
    with pytest.raises(ManifestError, match=message):
        read_manifest(folder)


def test_a_contract_that_was_changed_after_the_export_is_refused(own_engine):
    folder = own_engine("onnx-fp32")
    contract = read_manifest(folder).contract.to_dict()
    rewrite_manifest(folder, contract=contract | {"letterbox_fill": 0})
    with pytest.raises(ContractMismatchError, match="contract_digest"):
        Detector.load(folder)
    rewrite_manifest(folder, contract={k: v for k, v in contract.items() if k != "scale"})
    with pytest.raises(ContractMismatchError, match=r"manifest\.json.*scale"):
        Detector.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("arch", "riscv64", f"arch is {platform.machine()}, the engine is for riscv64"),
        ("os", "plan9", "the engine is for plan9"),
        ("runtime_version", "1.999.0", r"onnxruntime is .*, the engine was checked with 1\.999\.0"),
        ("runtime_version", "0.9.0", r"checked with 0\.9\.0"),
    ],
)
def test_an_engine_for_another_machine_is_refused(own_engine, key, value, message):
    folder = own_engine("onnx-fp32")
    profile = json.loads((folder / "manifest.json").read_text())["target_profile"]
    rewrite_manifest(folder, target_profile=profile | {key: value})
    with pytest.raises(ManifestError, match=message):
        verified_manifest(folder)


def test_the_profile_of_a_portable_engine_leaves_the_machine_open():
    assert this_machine("onnxruntime", portable=True).arch == "any"
    assert this_machine("onnxruntime").arch == platform.machine()
