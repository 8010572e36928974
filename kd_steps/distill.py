"""Stage `distill`: the teacher's cached answers and the labels → a student."""

from __future__ import annotations

from kd_steps.adapters.files import write_document
from kd_steps.adapters.training_log import write_losses
from kd_steps.artifacts import Findings, paths
from kd_steps.jobs.student_training import cached_lesson, own_lesson, student_of, train_student
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Judge the teacher, then distil the student, or go on where a kill stopped it."""
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.sidecar import read_sidecar
    from kd_steps.jobs.preflight import judge_teacher, own_verdict, refuse_weak, verdict_lines

    params, prepared = load_params(), load_prepared()
    teacher, own = paths.MODELS / params.distill.teacher, params.distill.answers == "ema"
    lesson = own_lesson(params, prepared) if own else cached_lesson(params, prepared, teacher, paths.CACHE)
    verdict = own_verdict()
    if not own:
        student = student_of(params, prepared, lesson, paths.STUDENT)
        verdict = judge_teacher(params, read_sidecar(teacher), student)
    print("\n".join(verdict_lines(verdict)))  # noqa: T201
    write_document(paths.TEACHER_CHOICE, Findings(**verdict))
    refuse_weak(params, verdict)
    measured = train_student(params, prepared, lesson, paths.STUDENT, "student")
    write_losses(paths.STUDENT / paths.TRAINING_LOG, paths.STUDENT_LOSSES)
    write_document(paths.STUDENT_SCORES, Findings(**measured))


if __name__ == "__main__":
    run_stage(main)
