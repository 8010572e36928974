"""The verdict on a teacher, before its student is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml

from kd_steps.artifacts import Findings, paths
from kd_steps.core.distill.teacher_choice import Finding, assistant_sizes, judge_capacity, judge_lead
from kd_steps.params import Params

if TYPE_CHECKING:
    from kd_steps.adapters.sidecar import Sidecar
    from kd_steps.adapters.yolo.models import Detector


class WeakTeacherError(ValueError):
    """The teacher is not far enough ahead of the student; the message names the numbers and the mend."""


def judge_teacher(params: Params, teacher: Sidecar, student: Detector) -> dict[str, Any]:
    """Judge a teacher by the 5-point rule and the capacity rule.

    Args:
        params: all of ``params.yaml``; the scores of ``plain_student`` are read where they were asked for.
        teacher: the sidecar of the network that teaches.
        student: the detector that is to learn.

    Returns:
        The verdict as JSON values: ``rules``, and ``proposal``, the lines of ``params.yaml`` for an assistant chain.
    """
    from kd_steps.adapters.yolo.models import parameter_count

    rules, size = params.distill.teacher_choice, parameter_count(student)
    alone = (Findings.read(paths.plain_student_scores(seed)).values() for seed in params.plain_student.seeds)
    plain = [scores["val_map50_95"] for scores in alone]
    lead = judge_lead(teacher.training.get("val_map50_95"), plain, rules.min_lead_points)
    sizes = assistant_sizes(teacher.parameters, size, rules.min_student_share)
    return {
        "teacher": {"taught_by": params.distill.teacher, "model": teacher.model, "parameters": teacher.parameters},
        "student": {"parameters": size},
        "rules": [lead.to_dict(), judge_size(params, teacher, student).to_dict()],
        "proposal": propose(params, student, sizes) if sizes else [],
    }


def judge_size(params: Params, teacher: Sidecar, student: Detector) -> Finding:
    """Judge a teacher by the capacity rule alone."""
    from kd_steps.adapters.yolo.models import parameter_count

    rules = params.distill.teacher_choice
    sizes = teacher.parameters, parameter_count(student)
    return judge_capacity(*sizes, rules.min_student_share, rules.max_student_share)


def own_verdict() -> dict[str, Any]:
    """The verdict where the student is its own teacher: there is nobody to judge."""
    text = "the student's own moving average teaches: neither rule has anything to compare"
    return {"rules": [Finding("lead", "not measured", None, text).to_dict()], "proposal": []}


def verdict_lines(verdict: Mapping[str, Any]) -> list[str]:
    """A verdict for a person."""
    lines = []
    for rule in verdict["rules"]:
        lines.append(f"teacher choice, {rule['verdict']}: {rule['text']}")
        if "student alone has no score" in rule["text"]:
            lines.append("  to measure it, set plain_student.seeds: [0] in params.yaml and run `dvc repro`")
    if verdict["proposal"]:
        lines += ["  a chain of assistants would make the steps smaller; in params.yaml:"]
        lines += [f"    {line}" for line in verdict["proposal"]]
    return lines


def refuse_weak(params: Params, verdict: Mapping[str, Any]) -> None:
    """Stop where no lead of the teacher is proven and the parameters say that this is to stop.

    Raises:
        WeakTeacherError: its lead is too small, or was not measured.
    """
    if params.distill.teacher_choice.on_weak_teacher == "warn" or "teacher" not in verdict:
        return
    for rule in verdict["rules"]:
        if rule["rule"] == "lead" and rule["verdict"] != "pass":
            raise WeakTeacherError(
                f"the teacher is too weak to teach: {rule['text']}. Train it longer (train_teacher.epochs), choose a "
                "larger one (train_teacher.model), lower distill.teacher_choice.min_lead_points, or set "
                "distill.teacher_choice.on_weak_teacher: warn"
            )


def propose(params: Params, student: Detector, sizes: Sequence[int]) -> list[str]:
    """Lines of ``params.yaml`` that put assistants between the student and whoever teaches it now.

    Args:
        params: all of ``params.yaml``.
        student: the detector that is to learn; the assistants have its architecture.
        sizes: wanted numbers of weights, largest first.
    """
    from kd_steps.adapters.yolo.scales import scale_near

    chain = {name: step.model_dump(mode="json", exclude_defaults=True) for name, step in params.assistant.chain.items()}
    before, comments = params.distill.teacher, dict.fromkeys(chain, "")
    for size in sizes:
        scale = scale_near(student, size)
        if scale is None:
            wanted = " and of ".join(f"{wanted / 1e6:.1f} M" for wanted in sizes)
            return [f"# assistants of {wanted} weights under assistant.chain, each a model YAML of yours"]
        name = scale.name if scale.name and scale.name not in chain else f"assistant{len(chain) + 1}"
        model = scale.model if isinstance(scale.model, str) else asdict(scale.model)
        chain[name] = {"taught_by": before, "model": model, "epochs": params.distill.epochs}
        before, comments[name] = f"assistants/{name}", f"  # {scale.parameters / 1e6:.2f} M weights"
    lines = [f"    {name}: {_in_a_line(step)}{comments[name]}" for name, step in chain.items()]
    return ["assistant:", "  chain:", *lines, "distill:", f"  teacher: {before}"]


def _in_a_line(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), default_flow_style=True, sort_keys=False, width=10_000).strip()
