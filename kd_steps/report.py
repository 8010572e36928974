"""Stage ``report``: everything the pipeline found → ``report/index.html``, one page that needs no network."""

from __future__ import annotations

from kd_steps.artifacts import paths
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Gather every finding and write the page."""
    from kd_steps.adapters.report.dossier import write_dossier
    from kd_steps.jobs.dossier_findings import gather_findings

    write_dossier(paths.DOSSIER, gather_findings(load_params()))


if __name__ == "__main__":
    run_stage(main)
