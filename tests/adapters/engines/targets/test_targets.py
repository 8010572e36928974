"""Every engine against its parent: outputs, metadata, what stayed in float, and the same bytes twice."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from engine_fixture import CLASSES, IMGSZ_PX, classes_of, picture

import kd_steps.adapters.engines.targets
from kd_steps.adapters.engines.targets import PARENT, TARGETS
from kd_steps.adapters.engines.targets.onnx_fp32 import CLASSES_KEY, CONTRACT_DIGEST_KEY, CONTRACT_KEY, build_onnx_fp32
from kd_steps.adapters.engines.targets.openvino_fp16 import build_openvino_fp16
from kd_steps.adapters.engines.targets.ort_cpu_int8 import build_ort_cpu_int8, decoding_nodes
from kd_steps.edge.contract import PreprocessingContract
from kd_steps.edge.detector import Detector
from kd_steps.edge.postprocess import output_errors
from kd_steps.edge.preprocess import Preprocessor
from kd_steps.params.export import Export

pytestmark = pytest.mark.slow


def test_params_know_the_targets_that_are_there_and_each_is_a_file_of_its_own():
    (targets,) = get_args(Export.model_fields["targets"].annotation)
    assert get_args(targets) == tuple(TARGETS)
    files = {path.stem for path in Path(kd_steps.adapters.engines.targets.__path__[0]).glob("[!_]*.py")}
    assert files == {name.replace("-", "_") for name in TARGETS}
    assert [name for name, target in TARGETS.items() if target.derive is None] == [PARENT.name]


def inputs(contract):
    return iter([Preprocessor(contract)(picture(seed, 64, 90))[0] for seed in range(5)])


@pytest.mark.parametrize(("name", "mean_limit"), [("ort-cpu-int8", 5e-3), ("openvino-fp16", 2e-4)])
def test_an_engine_stays_near_its_parent_on_pictures_it_was_not_calibrated_with(engines_dir, name, mean_limit):
    parent, engine = Detector.load(engines_dir / "onnx-fp32"), Detector.load(engines_dir / name)
    images = [picture(seed, 70, 70) for seed in range(100, 105)]
    errors = [output_errors(engine.raw_output(i), parent.raw_output(i), "anchors", IMGSZ_PX).mean() for i in images]
    assert 0 < max(errors) < mean_limit  # zero would be the parent itself


@pytest.mark.parametrize("name", ["teacher", "onnx-fp32", "ort-cpu-int8"])
def test_contract_and_classes_travel_in_the_metadata(engines_dir, name):
    properties = {p.key: p.value for p in onnx.load(engines_dir / name / "model.onnx").metadata_props}
    contract = PreprocessingContract.from_dict(json.loads(properties[CONTRACT_KEY]))
    assert contract.digest == properties[CONTRACT_DIGEST_KEY]
    assert contract == Detector.load(engines_dir / name).manifest.contract
    assert json.loads(properties[CLASSES_KEY]) == classes_of(name)
    assert "date" not in properties


@pytest.mark.parametrize("name", ["teacher", "onnx-fp32"])
def test_the_last_convolution_of_each_branch_and_the_decoding_stay_in_float(engines_dir, tmp_path, name):
    parent = engines_dir / name / "model.onnx"
    graph = onnx.load(parent).graph
    names = decoding_nodes(graph)
    convolutions = [n for n in graph.node if n.op_type == "Conv" and n.name in names]
    weights = {i.name: tuple(i.dims) for i in graph.initializer}
    class_branches = [n for n in convolutions if weights[n.input[1]][0] == len(classes_of(name))]
    assert len(class_branches) == 3  # one a scale
    assert len(convolutions) == 6 + (name == "onnx-fp32")  # boxes too, and DFL, which the end-to-end head has not

    contract = Detector.load(engines_dir / name).manifest.contract
    build_ort_cpu_int8(parent, tmp_path / "int8.onnx", inputs(contract))
    quantised = onnx.load(tmp_path / "int8.onnx").graph
    producer = {o: n for n in quantised.node for o in n.output}
    by_name = {n.name: n for n in quantised.node}
    for node in convolutions:
        weight = producer.get(by_name[node.name].input[1])
        assert weight is None or weight.op_type != "DequantizeLinear"
    kinds = {i.name: i.data_type for i in quantised.initializer}
    others = [n for n in quantised.node if n.op_type == "Conv" and n.name not in {c.name for c in convolutions}]
    assert len(others) > 50
    for node in others:
        weight, activation = producer[node.input[1]], producer[node.input[0]]
        assert kinds[weight.input[0]] == onnx.TensorProto.INT8
        assert kinds[activation.input[2]] == onnx.TensorProto.UINT8
    per_channel = [i for i in quantised.initializer if i.name == producer[others[3].input[1]].input[1]]
    assert per_channel[0].dims[0] > 1


def test_the_same_input_gives_the_same_bytes(engines_dir, tmp_path):
    parent = engines_dir / "onnx-fp32/model.onnx"
    contract = Detector.load(engines_dir / "onnx-fp32").manifest.contract
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        build_onnx_fp32(parent, folder / "model.onnx", contract.to_dict(), contract.digest, CLASSES)
        build_ort_cpu_int8(parent, folder / "int8.onnx", inputs(contract))
        build_openvino_fp16(parent, folder / "model.xml")
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0].keys() == {"model.onnx", "int8.onnx", "model.xml", "model.bin"}
    assert [name for name in made[0] if made[0][name] != made[1][name]] == []


def test_fp16_weights_are_half_the_size(engines_dir):
    size = (engines_dir / "openvino-fp16/model.bin").stat().st_size
    assert 0.4 < size / (engines_dir / "onnx-fp32/model.onnx").stat().st_size < 0.6


def test_a_calibration_picture_changes_the_ranges(engines_dir, tmp_path):
    """The calibration inputs are used: a set of black pictures gives another engine."""
    parent = engines_dir / "onnx-fp32/model.onnx"
    build_ort_cpu_int8(parent, tmp_path / "black.onnx", iter([np.zeros((1, 3, IMGSZ_PX, IMGSZ_PX), np.float32)]))
    assert (tmp_path / "black.onnx").read_bytes() != (engines_dir / "ort-cpu-int8/model.onnx").read_bytes()
