"""A gate's verdict and a receipt as stages write them, for tests of who reads them."""

from typing import Any

from kd_steps.artifacts import GateVerdict, Receipt

RULE = {"name": "map_ratio", "target": "onnx-fp32", "value": 0.9, "limit": 0.95, "low": 0.88, "high": 0.92, "n": 240}
FAILED = {**RULE, "verdict": "fail", "reason": "0.9 is below 0.95"}


def gate_json(passed: bool = True, rules: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Any]:
    """``metrics/gate.json``."""
    values: dict[str, Any] = {
        **{"passed": passed, "rules": list(rules), "targets": {}, "releases": {}, "confidence_level": 0.95},
        **{"required_targets": ["onnx-fp32"], "summary": ["Passed: 1 of 1."]},
    }
    return GateVerdict.model_validate(values | more).model_dump(mode="json", by_alias=True)


def receipt_json(tracking_uri: str = "sqlite:///x", versions: tuple[str, ...] = ()) -> dict[str, Any]:
    """``.retort/registration.json``, with versions of ``retort-onnx-fp32``."""
    digests = {"engine_digest": "e" * 64, "release_digest": "d" * 64}
    model = {"name": "retort-onnx-fp32", "target": "onnx-fp32", "created": True, **digests}
    values: dict[str, Any] = {
        **{"tracking_uri": tracking_uri, "experiment": "retort", "parent_run_id": "1", "gate_passed": True},
        **{"models": [{**model, "version": version} for version in versions], "not_registered": [], "problem": None},
    }
    return Receipt.model_validate(values).model_dump(mode="json", by_alias=True)
