"""What stops a training before a loss that is no number reaches its weights.

Ultralytics goes back to its last checkpoint and tries the epoch again, three times, and says nothing of the cause.
Views are the same each time here, so trying again would give the same: the training stops and says where to look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kd_steps.core.detect.outputs import DetectorOutputs

FEW = 32  # pictures that a message names at most


class NotFiniteError(ValueError):
    """A loss, a gradient or an answer is NaN or infinite; the message names what of it, where, and the mend."""


def require_finite_loss(
    total: Tensor, parts: Mapping[str, Tensor], pictures: Sequence[str], epoch: int, checkpoint: Path
) -> None:
    """Stop at a batch whose loss is no number, before its gradients are taken.

    Args:
        total: the loss, any shape.
        parts: its named parts, scalars.
        pictures: files of the batch.
        epoch: from 0.
        checkpoint: the last good one, which may not be there yet.

    Raises:
        NotFiniteError: the loss is NaN or infinite.
    """
    if bool(total.isfinite().all()):
        return
    wrong = [f"{name} = {value.item():g}" for name, value in parts.items() if not bool(value.isfinite().all())]
    raise NotFiniteError(_message("loss", wrong or ["their weighted sum"], pictures, epoch, checkpoint))


def require_finite_gradient(norm: Tensor, pictures: Sequence[str], epoch: int, checkpoint: Path) -> None:
    """Stop at gradients that are no numbers though the loss was one, before a step is taken.

    Args:
        norm: of all gradients, a scalar.
        pictures: files of the last batch that the gradients are of.
        epoch: from 0.
        checkpoint: the last good one, which may not be there yet.

    Raises:
        NotFiniteError: the norm is NaN or infinite.
    """
    if not bool(torch.isfinite(norm)):
        raise NotFiniteError(_message("gradient", [f"norm = {norm.item():g}"], pictures, epoch, checkpoint))


def require_finite_answer(outputs: DetectorOutputs) -> None:
    """Stop at a teacher that answers no numbers: cut down to an answer, they would say that it sees nothing.

    Raises:
        NotFiniteError: an output is NaN or infinite.
    """
    branches = {
        "one-to-many": outputs.one_to_many,
        **({"one-to-one": outputs.one_to_one} if outputs.one_to_one else {}),
    }
    for name, branch in branches.items():
        sound = {"class logits": _finite(branch.class_logits), "boxes": _finite(branch.boxes)}
        if wrong := [what for what, is_sound in sound.items() if not is_sound]:
            raise NotFiniteError(_NO_ANSWER.format(f"{' and '.join(wrong)} of its {name} branch"))
    if not all(_finite(level) for level in outputs.features):
        raise NotFiniteError(_NO_ANSWER.format("features of its neck"))


def _finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())


_NO_ANSWER = (
    "the teacher's answer is not finite ({}); its weights are broken, or half precision is too narrow for them: set "
    "compute.precision: fp32"
)


def _message(what: str, wrong: Sequence[str], pictures: Sequence[str], epoch: int, checkpoint: Path) -> str:
    named = ", ".join(pictures[:FEW]) + (f" and {len(pictures) - FEW} more" if len(pictures) > FEW else "")
    kept = (
        f"{checkpoint} holds the last good epoch, and the next run of the same recipe goes on from it"
        if checkpoint.exists()
        else "no epoch was finished before it"
    )
    return (
        f"the {what} is not finite in epoch {epoch + 1} ({'; '.join(wrong)}), in the batch of {named}. The training "
        f"stopped before its weights were touched; {kept}. Look at these pictures, their labels and the teacher's "
        "answers to them; if they are sound, set compute.precision: fp32, or lower lr0, clip_norm or the term's "
        "weight; another recipe or another cache begins anew"
    )
