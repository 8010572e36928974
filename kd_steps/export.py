"""Stage ``export``: student and teacher become engines, each with a manifest and golden inputs and outputs."""

from __future__ import annotations

from kd_steps.artifacts import paths
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Read the networks, build every target, write ``models/engines``."""
    from kd_steps.adapters.data.ledger import load_ledger
    from kd_steps.jobs.build_engines import Models, build_engines

    params = load_params()
    models = Models(paths.TEACHER, paths.FEW_SHOT, paths.STUDENT)
    ledger = load_ledger(params.product)
    data, parts, engines = paths.PREPARED, paths.NEW_PARTS, paths.ENGINES
    build_engines(data, parts, models, ledger, engines, params.export, params.seed)


if __name__ == "__main__":
    run_stage(main)
