"""ONNX: the metadata that makes a graph an engine of ours. The parent of all other engines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_steps.adapters.engines.folder import Target

TARGET = Target("onnx-fp32", "onnxruntime", "fp32", "f32", True, 1e-3, "torch", "largest", 1e-3)

CONTRACT_KEY = "retort.contract"
CONTRACT_DIGEST_KEY = "retort.contract_digest"
CLASSES_KEY = "retort.classes"
CLOCK_KEYS = ("date",)  # Ultralytics stamps the time; the same weights are to give the same bytes


def build_onnx_fp32(
    graph: Path, out: Path, contract: Mapping[str, Any], contract_digest: str, class_names: Sequence[str]
) -> None:
    """Write an exported graph as the ``onnx-fp32`` engine, with contract and classes in its metadata.

    Args:
        graph: ONNX file of the network, raw output.
        out: file to write.
        contract: the preprocessing contract as JSON values.
        contract_digest: its digest.
        class_names: in the order of the class ids.

    Raises:
        onnx.checker.ValidationError: the graph is not valid ONNX.
    """
    import onnx

    model = onnx.load(graph)
    properties = {p.key: p.value for p in model.metadata_props if p.key not in CLOCK_KEYS}
    properties |= {
        CONTRACT_KEY: json.dumps(contract, sort_keys=True),
        CONTRACT_DIGEST_KEY: contract_digest,
        CLASSES_KEY: json.dumps(list(class_names)),
    }
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(properties.items())))
    onnx.checker.check_model(model)
    onnx.save(model, out)
