"""Stage `plain_student@<seed>`: the student's own training without a teacher → the score that a teacher must beat.

Only as many of these stages exist as ``plain_student.seeds`` of params.yaml has numbers.
"""

from __future__ import annotations

import sys

from kd_steps.adapters.files import write_document
from kd_steps.artifacts import Findings, paths
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Train the student on the labels alone, or go on where a kill stopped it."""
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.jobs.student_training import plain_lesson, train_student

    seed = named()
    params, prepared = load_params().model_copy(update={"seed": seed}), load_prepared()
    folder = paths.plain_student(seed)
    measured = train_student(params, prepared, plain_lesson(params, prepared), folder, "plain_student")
    write_document(paths.plain_student_scores(seed), Findings(**measured))


def named() -> int:
    """The seed that the command line names.

    Raises:
        ValueError: it names none.
    """
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        raise ValueError("which seed? `python -m kd_steps.plain_student <seed>`, or `dvc repro plain_student@<seed>`")
    return int(sys.argv[1])


if __name__ == "__main__":
    run_stage(main)
