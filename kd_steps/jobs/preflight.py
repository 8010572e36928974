"""The verdict on a teacher, before its student is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kd_steps.adapters.files import write_json
from kd_steps.artifacts import Findings, paths, read_json
from kd_steps.core.distill.teacher_choice import Finding, assistant_sizes, judge_capacity, judge_lead
from kd_steps.edge.contract import canonical_digest
from kd_steps.jobs.fingerprint import own_architecture, releases
from kd_steps.params import Params

if TYPE_CHECKING:
    from kd_steps.adapters.sidecar import Sidecar
    from kd_steps.jobs.student_training import Learner

SCALES = Path(".retort/scales")  # sizes of architectures that were found near a wanted one


class WeakTeacherError(ValueError):
    """The teacher is not far enough ahead of the student; the message names the numbers and the mend."""


def judge_teacher(params: Params, teacher: Sidecar, student: Learner) -> dict[str, Any]:
    """Judge a teacher by the 5-point rule and the capacity rule.

    Args:
        params: all of ``params.yaml``; the scores of ``plain_student`` are read where they were asked for.
        teacher: the sidecar of the network that teaches.
        student: the one that is to learn.

    Returns:
        The verdict as JSON values: ``rules``, and ``proposal``, the lines of ``params.yaml`` for an assistant chain.
    """
    rules, size = params.distill.teacher_choice, student.parameters
    alone = (Findings.read(paths.plain_student_scores(seed)).values() for seed in params.plain_student.seeds)
    plain = [scores["val_map50_95"] for scores in alone]
    lead = judge_lead(teacher.training.get("val_map50_95"), plain, rules.min_lead_points)
    sizes = assistant_sizes(teacher.parameters, size, rules.min_student_share)
    return {
        "teacher": {"taught_by": params.distill.teacher, "model": teacher.model, "parameters": teacher.parameters},
        "student": {"parameters": size},
        "rules": [lead.to_dict(), judge_size(params, teacher, size).to_dict()],
        "proposal": propose(params, student, sizes) if sizes else [],
    }


def judge_size(params: Params, teacher: Sidecar, parameters: int) -> Finding:
    """Judge a teacher by the capacity rule alone, from the number of its student's weights."""
    rules = params.distill.teacher_choice
    return judge_capacity(teacher.parameters, parameters, rules.min_student_share, rules.max_student_share)


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


def propose(params: Params, student: Learner, sizes: Sequence[int]) -> list[str]:
    """Lines of ``params.yaml`` that put assistants between the student and whoever teaches it now.

    Args:
        params: all of ``params.yaml``.
        student: the one that is to learn; the assistants have its architecture.
        sizes: wanted numbers of weights, largest first.
    """
    chain = {name: step.model_dump(mode="json", exclude_defaults=True) for name, step in params.assistant.chain.items()}
    before, comments = params.distill.teacher, dict.fromkeys(chain, "")
    for size in sizes:
        scale = _scale_near(params, student, size)
        if scale is None:
            wanted = " and of ".join(f"{wanted / 1e6:.1f} M" for wanted in sizes)
            return [f"# assistants of {wanted} weights under assistant.chain, each a model YAML of yours"]
        name = scale["name"] if scale["name"] and scale["name"] not in chain else f"assistant{len(chain) + 1}"
        chain[name] = {"taught_by": before, "model": scale["model"], "epochs": params.distill.epochs}
        before, comments[name] = f"assistants/{name}", f"  # {scale['parameters'] / 1e6:.2f} M weights"
    lines = [f"    {name}: {_in_a_line(step)}{comments[name]}" for name, step in chain.items()]
    return ["assistant:", "  chain:", *lines, "distill:", f"  teacher: {before}"]


def _scale_near(params: Params, student: Learner, size: int) -> dict[str, Any] | None:
    """The student's architecture at about so many weights, as JSON values: name, model, parameters.

    To find one, a dozen networks are built, and the stage comes here again each time DVC enters it. So what was found
    is kept in scratch, by all that it follows from; without it, it is found again.
    """
    distill = params.distill
    asked = [distill.model_dump(mode="json")["model"], own_architecture(distill.model), student.parameters, size]
    note = SCALES / f"{canonical_digest([*asked, distill.weights_sha256, releases()])}.json"
    with suppress(FileNotFoundError, ValueError):
        found: dict[str, Any] | None = read_json(note)["scale"]
        return found
    from kd_steps.adapters.yolo.scales import scale_near

    scale = scale_near(student.build(), size)
    write_json(note, {"scale": asdict(scale) if scale else None})
    return asdict(scale) if scale else None


def _in_a_line(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), default_flow_style=True, sort_keys=False, width=10_000).strip()
