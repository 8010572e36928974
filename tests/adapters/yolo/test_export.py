"""Ultralytics' export: what it leaves behind, and weights that are none."""

import numpy as np
import onnx
import pytest

from kd_steps.adapters.yolo.export import ExportError, export_onnx, is_end_to_end, raw_outputs

pytestmark = pytest.mark.slow


def test_nothing_is_written_beside_the_weights_and_the_graph_is_checked_onnx(engine_project, tmp_path):
    weights = engine_project / "models/few_shot/weights.pt"
    before = {p.name: p.stat().st_mtime_ns for p in weights.parent.iterdir()}
    export_onnx(weights, tmp_path / "graph.onnx", 96, 15)
    assert {p.name: p.stat().st_mtime_ns for p in weights.parent.iterdir()} == before
    graph = onnx.load(tmp_path / "graph.onnx")
    onnx.checker.check_model(graph)
    assert [o.version for o in graph.opset_import if o.domain == ""] == [15]
    assert [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 96, 96]


def test_the_head_decides_the_format(engine_project):
    tensor = np.full((1, 3, 64, 64), 0.5, np.float32)
    for folder, end_to_end in (("teacher", True), ("few_shot", False)):
        weights = engine_project / "models" / folder / "weights.pt"
        assert is_end_to_end(weights) is end_to_end
        shape = raw_outputs(weights, [tensor])[0].shape
        assert shape == ((1, 84, 6) if end_to_end else (1, 7, 84))


def test_weights_that_are_none_are_named(tmp_path, engine_project):
    broken = tmp_path / "broken.pt"
    broken.write_bytes((engine_project / "models/few_shot/weights.pt").read_bytes()[:5000])
    with pytest.raises(ExportError, match=r"broken\.pt: not a readable Ultralytics checkpoint"):
        export_onnx(broken, tmp_path / "out.onnx", 64, 17)
    with pytest.raises(ExportError, match=r"none\.pt: no such weight file"):
        raw_outputs(tmp_path / "none.pt", [])
    with pytest.raises(ExportError, match=r"none\.pt: no such weight file"):
        export_onnx(tmp_path / "none.pt", tmp_path / "out.onnx", 64, 17)
    assert not (tmp_path / "out.onnx").exists()
