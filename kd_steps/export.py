"""Stage ``export``: student and teacher become engines, each with a manifest and golden inputs and outputs."""

from __future__ import annotations

from pathlib import Path

from kd_steps.artifacts import paths
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage

STAGING = Path(".retort/export")


def main() -> None:
    """Read the networks, build every target, write ``models/engines``."""
    from kd_steps.adapters.data.ledger import load_ledger
    from kd_steps.adapters.files import swap_folder
    from kd_steps.jobs.build_engines import Models, build_engines

    params = load_params()
    models = Models(paths.TEACHER, paths.FEW_SHOT, paths.STUDENT)
    ledger = load_ledger(params.product)
    build_engines(paths.PREPARED, paths.NEW_PARTS, models, ledger, STAGING, params.export, params.seed)
    swap_folder(STAGING, paths.ENGINES)  # all at once: another `dvc` may clear the place while this one builds


if __name__ == "__main__":
    run_stage(main)
