"""Stage ``register``: releases that passed the gate → MLflow model versions with lineage; a failed gate → none.

The runs are logged either way. The receipt is written last, and only if the gate passed.
"""

from __future__ import annotations

from pathlib import Path

from kd_steps.artifacts import paths
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Log the runs, register what passed, write the receipt; raise if the gate failed."""
    from kd_steps.adapters.files import write_document
    from kd_steps.jobs.register_engines import register_releases
    from kd_steps.jobs.released_classes import keep_released

    params = load_params()
    paths.RECEIPT.unlink(missing_ok=True)  # an old success must not outlive a new failure
    receipt = register_releases(Path.cwd(), params)
    keep_released(params.product)
    write_document(paths.RECEIPT, receipt)


if __name__ == "__main__":
    run_stage(main)
