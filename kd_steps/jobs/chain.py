"""The chain of assistants: what of ``params.yaml`` is one assistant's own."""

from __future__ import annotations

from kd_steps.params import Params


def params_of_assistant(params: Params, name: str) -> Params:
    """Parameters whose ``distill`` section describes an assistant's training.

    Raises:
        ValueError: ``assistant.chain`` has no such name.
    """
    if name not in params.assistant.chain:
        raise ValueError(f"assistant.chain has no '{name}'; there are: {', '.join(params.assistant.chain) or 'none'}")
    step = params.assistant.chain[name]
    told = {
        "teacher": step.taught_by,
        "model": step.model,
        "weights_sha256": step.weights_sha256,
        "epochs": step.epochs,
    }
    return params.model_copy(update={"distill": params.distill.model_copy(update=told)})
