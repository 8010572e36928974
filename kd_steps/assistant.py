"""Stage `assistant@<name>`: a teacher's or a larger assistant's answers → a teacher assistant.

Only as many of these stages exist as ``assistant.chain`` of params.yaml has names.
"""

from __future__ import annotations

import sys

from kd_steps.adapters.files import write_document
from kd_steps.adapters.training_log import write_losses
from kd_steps.artifacts import Findings, paths
from kd_steps.jobs.chain import params_of_assistant
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Let the one before it answer, then distil this assistant; each part goes on where a kill stopped it."""
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.sidecar import read_sidecar
    from kd_steps.jobs.cache_filling import fill_cache
    from kd_steps.jobs.preflight import judge_size
    from kd_steps.jobs.student_training import cached_lesson, student_of, train_student

    name = named()
    params, prepared = params_of_assistant(load_params(), name), load_prepared()
    teacher, cache = paths.MODELS / params.distill.teacher, paths.assistant_cache(name)
    folder, lesson = paths.assistant(name), cached_lesson(params, prepared, teacher, cache)
    assistant = student_of(params, prepared, lesson, folder)
    print(judge_size(params, read_sidecar(teacher), assistant.parameters).text)  # noqa: T201
    filled = fill_cache(params, teacher, cache)
    measured = train_student(params, prepared, lesson, folder, "assistant")
    write_losses(folder / paths.TRAINING_LOG, paths.assistant_losses(name))
    write_document(paths.assistant_scores(name), Findings(**{**measured, "cache": filled}))


def named() -> str:
    """The assistant that the command line names.

    Raises:
        ValueError: it names none.
    """
    if len(sys.argv) != 2:
        raise ValueError("which assistant? `python -m kd_steps.assistant <name>`, or `dvc repro assistant@<name>`")
    return sys.argv[1]


if __name__ == "__main__":
    run_stage(main)
