"""Stage ``register``: releases that passed the gate → MLflow model versions with lineage; a failed gate → none.

The runs are logged either way. The receipt is written last, and says what is true after a failure, too.
"""

from __future__ import annotations

from pathlib import Path

from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Log the runs, register what passed, write the receipt; raise if the gate failed."""
    from kd_steps.jobs.receipt import write_failure, write_receipt
    from kd_steps.jobs.register_engines import register_releases
    from kd_steps.jobs.released_classes import keep_released

    params = load_params()
    try:
        receipt = register_releases(Path.cwd(), params)
    except ValueError as error:
        write_failure(Path.cwd(), params, error)  # an old success must not outlive a new failure
        raise
    keep_released(params.product)
    write_receipt(receipt)


if __name__ == "__main__":
    run_stage(main)
