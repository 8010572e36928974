"""Several teachers that answer as one: their dense head outputs are merged before they are cut down to answers.

Each class has the teachers that answer for it. Scores are averaged as probabilities, and the distributions of the box
sides are mixed; the one to localise an object is above all the one that sees it, so a teacher's share in a box is its
weight times its top score there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kd_steps.core.detect.outputs import BranchOutputs


@dataclass(frozen=True)
class EnsembleMember:
    """One of several teachers.

    Attributes:
        name: how messages call it.
        class_names: what it knows, in the order of its outputs.
        weight: of its answers, above 0.
        answers_for: the classes that it alone, or with others that name them, answers for; empty: all that nobody
            names.
    """

    name: str
    class_names: tuple[str, ...]
    weight: float
    answers_for: tuple[str, ...] = ()


def class_shares(members: Sequence[EnsembleMember], classes: Sequence[str]) -> Tensor:
    """Each member's share in each class.

    Args:
        members: the teachers.
        classes: class names of the merged answer.

    Returns:
        Shape (members, classes), columns that add up to 1.

    Raises:
        ValueError: a teacher names a class that the data does not have, is to answer for one that it does not know, or
            nobody answers for a class.
    """
    named = {name for member in members for name in member.answers_for}
    if strange := [name for member in members for name in member.answers_for if name not in classes]:
        raise ValueError(f"classes names {strange}, which the data does not have; there are {list(classes)}")
    shares = torch.zeros(len(members), len(classes))
    for row, member in enumerate(members):
        for column, name in enumerate(classes):
            if name in member.answers_for or (not member.answers_for and name not in named):
                if name not in member.class_names:
                    raise ValueError(
                        f"{member.name}: is to answer for '{name}', but knows only {list(member.class_names)}; "
                        "name the classes that it is to answer for"
                    )
                shares[row, column] = member.weight
    if silent := [name for name, total in zip(classes, shares.sum(dim=0).tolist(), strict=True) if not total]:
        raise ValueError(f"no teacher answers for {silent}; leave one teacher without classes, or name them")
    return shares / shares.sum(dim=0)


def in_order(logits: Tensor, knows: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Class logits in the order of other classes; a class that is not known has the logit of a score near 0.

    Args:
        logits: shape (batch, known classes, anchors).
        knows: names of the known classes.
        classes: names of the wanted ones.
    """
    padded = functional.pad(logits, (0, 0, 0, 1), value=-30.0)
    return padded[:, [knows.index(name) if name in knows else len(knows) for name in classes]]


def merge_heads(heads: Sequence[BranchOutputs], shares: Tensor) -> BranchOutputs:
    """One head's outputs from those of several.

    Args:
        heads: raw outputs over the same anchors and classes.
        shares: shape (heads, classes), as of :func:`class_shares`.

    Returns:
        The logits of the mean probabilities, and the logits of the mixed bins (of heads without bins, the mean
        distances), fp32.
    """
    log_shares = shares.to(heads[0].class_logits.device).log()[:, None, :, None]
    logits = torch.stack([head.class_logits.float() for head in heads])
    yes = log_shares + functional.logsigmoid(logits)
    no = log_shares + functional.logsigmoid(-logits)
    box_shares = yes.amax(dim=2).log_softmax(dim=0)  # (heads, batch, anchors), of the weighted top scores
    boxes = torch.stack([head.boxes.float() for head in heads])
    return BranchOutputs(yes.logsumexp(dim=0) - no.logsumexp(dim=0), _mixed_boxes(boxes, box_shares))


def _mixed_boxes(boxes: Tensor, box_shares: Tensor) -> Tensor:
    """(heads, batch, 4 · bins, anchors) and log shares (heads, batch, anchors) → (batch, 4 · bins, anchors)."""
    heads, batch, outputs, anchors = boxes.shape
    if outputs == 4:
        return (boxes * box_shares.exp()[:, :, None]).sum(dim=0)
    sides = boxes.reshape(heads, batch, 4, outputs // 4, anchors).log_softmax(dim=3)
    return (sides + box_shares[:, :, None, None]).logsumexp(dim=0).reshape(batch, outputs, anchors)
