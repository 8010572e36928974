"""Fingerprints of the last commit before there were recipe numbers: what was finished there is not trained again.

There, a digest over the source files that a stage imported stood for the code. One commit is taken over, with the
libraries of its lock: the digests are its own, and what they stand for are the recipe's first numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kd_steps.adapters.sidecar import Kind, Sidecar
from kd_steps.edge.contract import canonical_digest
from kd_steps.jobs.fingerprint import Fingerprint

LIBRARIES = {"ultralytics": "8.4.190", "torch": "2.15.0", "numpy": "2.4.6"}
FIRST_NUMBER = 1
# Of each kind of training with torch 2.15.0 and 2.15.0+cpu.
MADE_BY: Mapping[Kind, tuple[str, str]] = {
    "teacher": (
        "ba9d4486374fc375739c4bb747ea6e8e20eaa174ed0889b98f93b8aae346ffe8",
        "8f3f81764cead6273b3fe0af856d024946104ee8b4895b3f0733b30e1105e745",
    ),
    "assistant": (
        "9f9b04e1498dce3b783ce960215c7eea92cc29b845495b3543aee8a8c681798d",
        "2264a24936ba4c656cbd4c96aded881414f339c3eaaf1dbd474a42a75c41cd30",
    ),
    "plain_student": (
        "9a8399644bc4c2052602ae544265530dbf64774cc4f9001dedb19c950258cb34",
        "2ba32b57d18a8479a9a765ab8d3df335e7a35cf6368141d0aa20c9b50cdbb7da",
    ),
    "student": (
        "72c1bd136f168290528d213bf8470ef6e197ab37a8c3d4a4dfe9cbd270f6c5c4",
        "86a1902cfc38c6c6427f861107285cc06846431f02230f232750a648dcad6ec4",
    ),
    "few_shot": (
        "65aa5e362e23146ba29445f50383ab82420f552e11cb6f0f3261c1c83cfff523",
        "7c0bebc01523a94b6585492dbc862af403b60b8405e3abfbafc823729cabecd0",
    ),
}


def as_today(
    values: Mapping[str, Any],
    made_of: Fingerprint,
    kind: Kind,
    sidecar: Sidecar,
    architecture: Callable[[], Mapping[str, Any]],
) -> Fingerprint | None:
    """A finished fingerprint of that commit as today's would tell it.

    Args:
        values: as it was read.
        made_of: what the same training depends on today.
        kind: of the training.
        sidecar: of its weights.
        architecture: builds the network and says how; asked where its model YAML lies in the project.

    Returns:
        None where another commit made it.
    """
    if values.get("made_by") not in MADE_BY[kind]:
        return None
    section, lesson = dict(values["section"]), values.get("lesson", {})
    same_model = made_of.architecture is None or canonical_digest(architecture()) == values.get("architecture")
    return made_of.model_copy(
        update={
            "finished": True,
            "dataset": values["dataset"],
            "contract": values["contract"],
            "seed": values["seed"],
            "classes": sidecar.classes,
            "values": {**section, **values.get("few_shot", {})},
            "architecture": made_of.architecture if same_model else "another",
            "learns_from": values.get("student", lesson.get("teacher_sha256")),
            "taught_with": _taught_with(values, made_of, lesson),
            "libraries": LIBRARIES,
            "recipe": dict.fromkeys(made_of.recipe, FIRST_NUMBER),
        }
    )


def _taught_with(values: Mapping[str, Any], made_of: Fingerprint, lesson: Mapping[str, Any]) -> dict[str, Any]:
    """What the teacher was asked, or which shots were learnt; what that commit did not note is taken as asked today."""
    if "shots" in values:
        return {**made_of.taught_with, "shots": values["shots"]}
    if (cache := lesson.get("cache")) is None:
        return dict(lesson.get("asked", {}))
    kept = {name: cache[name] for name in made_of.taught_with.keys() & cache.keys()}
    teacher, voices = lesson["teacher_sha256"], made_of.taught_with["voices"]
    asked = canonical_digest([teacher, voices]) if voices else teacher
    return {**kept, "voices": voices if asked == cache["teacher_sha256"] else ["others"]}
