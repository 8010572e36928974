"""What an engine can be built for: a file a target, with its row and its builder, and a line here."""

from __future__ import annotations

from kd_steps.adapters.engines.targets import onnx_fp32, openvino_fp16, ort_cpu_int8

PARENT = onnx_fp32.TARGET  # every other engine is made from it
TARGETS = {target.name: target for target in (PARENT, ort_cpu_int8.TARGET, openvino_fp16.TARGET)}
