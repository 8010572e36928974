"""The receipt of `register`: what was registered from this folder. It always says what is true now."""

from __future__ import annotations

from pathlib import Path

from kd_steps.adapters.files import write_document
from kd_steps.artifacts import GateVerdict, Receipt, RegisteredModel, paths
from kd_steps.params import Params


def write_receipt(receipt: Receipt) -> None:
    """Write the receipt; one that an older release left elsewhere goes when the new one stands."""
    write_document(paths.RECEIPT, receipt)
    paths.RECEIPT_BEFORE.unlink(missing_ok=True)


def write_failure(root: Path, params: Params, error: ValueError) -> None:
    """Let a receipt of before tell of a failure; of its versions it keeps those of the releases judged last.

    Those are registered still, in the store that the receipt names. Where nothing was registered before, no receipt
    says so.
    """
    from kd_steps.adapters.mlflow.address import tracking_uri, without_credentials

    if not (paths.RECEIPT.exists() or paths.RECEIPT_BEFORE.exists()):
        return
    before, uri = _of_before(), without_credentials(tracking_uri(root))
    passed, judged = _judged()
    kept: list[RegisteredModel] = []
    if before is not None and before.tracking_uri == uri and passed:
        kept = [model for model in before.models if model.release_digest in judged]
    write_receipt(
        Receipt(
            tracking_uri=uri,
            experiment=params.register_.experiment,
            parent_run_id=before.parent_run_id if before is not None and kept else "",
            gate_passed=passed,
            models=kept,
            not_registered=[t for t in params.export.targets if t not in {model.target for model in kept}],
            problem=str(error).strip().split("\n")[0],
        )
    )


def _of_before() -> Receipt | None:
    for path in (paths.RECEIPT, paths.RECEIPT_BEFORE):
        if path.exists():
            try:
                return Receipt.read(path)
            except ValueError:
                return None  # damaged: its successor knows no versions
    return None


def _judged() -> tuple[bool, set[str]]:
    """Whether the gate passed, and the digests of the releases it judged."""
    try:
        gate = GateVerdict.read(paths.GATE)
    except (ValueError, OSError):
        return False, set()
    return gate.passed, {digest for digest in gate.releases.values() if digest}
