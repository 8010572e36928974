"""Stage `cache_logits`: the teacher answers every view that the distillation will show, once."""

from __future__ import annotations

from kd_steps.adapters.files import write_document
from kd_steps.artifacts import Findings, paths
from kd_steps.jobs.cache_filling import fill_cache, leave_empty
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Fill the cache, or what a kill left missing in it; a student that is its own teacher needs none."""
    params = load_params()
    if params.distill.answers == "ema":
        print(f"{paths.CACHE}: distill.answers is ema, the student's own average answers live: no cache is built")  # noqa: T201
        measured = leave_empty(paths.CACHE)
    else:
        measured = fill_cache(params, paths.MODELS / params.distill.teacher, paths.CACHE)
    write_document(paths.CACHE_FACTS, Findings(**measured))


if __name__ == "__main__":
    run_stage(main)
