"""Several teachers that answer as one: their dense head outputs are merged before they are cut down to answers.

Each class has its voters. Scores are averaged as probabilities, and the distributions of the box sides are mixed; the
one to localise an object is above all the one that sees it, so a teacher's voice in a box is its weight times its top
score there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kd_steps.core.detect.outputs import BranchOutputs


@dataclass(frozen=True)
class Voter:
    """One of several teachers.

    Attributes:
        name: how messages call it.
        knows: its class names, in the order of its outputs.
        weight: of its voice, above 0.
        classes: the classes that it alone, or with others that name them, answers for; empty: all that nobody names.
    """

    name: str
    knows: tuple[str, ...]
    weight: float
    classes: tuple[str, ...] = ()


def class_votes(voters: Sequence[Voter], classes: Sequence[str]) -> Tensor:
    """Each voter's share in each class.

    Args:
        voters: the teachers.
        classes: class names of the merged answer.

    Returns:
        Shape (voters, classes), columns that add up to 1.

    Raises:
        ValueError: a voter names a class that the data does not have, is to answer for one that it does not know, or
            nobody answers for a class.
    """
    named = {name for voter in voters for name in voter.classes}
    if strange := [name for voter in voters for name in voter.classes if name not in classes]:
        raise ValueError(f"classes names {strange}, which the data does not have; there are {list(classes)}")
    votes = torch.zeros(len(voters), len(classes))
    for row, voter in enumerate(voters):
        for column, name in enumerate(classes):
            if name in voter.classes or (not voter.classes and name not in named):
                if name not in voter.knows:
                    raise ValueError(
                        f"{voter.name}: is to answer for '{name}', but knows only {list(voter.knows)}; "
                        "name the classes that it is to answer for"
                    )
                votes[row, column] = voter.weight
    if silent := [name for name, total in zip(classes, votes.sum(dim=0).tolist(), strict=True) if not total]:
        raise ValueError(f"no teacher answers for {silent}; leave one teacher without classes, or name them")
    return votes / votes.sum(dim=0)


def in_order(logits: Tensor, knows: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Class logits in the order of other classes; a class that is not known has the logit of a score near 0.

    Args:
        logits: shape (batch, known classes, anchors).
        knows: names of the known classes.
        classes: names of the wanted ones.
    """
    padded = functional.pad(logits, (0, 0, 0, 1), value=-30.0)
    return padded[:, [knows.index(name) if name in knows else len(knows) for name in classes]]


def merge_heads(heads: Sequence[BranchOutputs], votes: Tensor) -> BranchOutputs:
    """One head's outputs from those of several.

    Args:
        heads: raw outputs over the same anchors and classes.
        votes: shape (heads, classes), as of :func:`class_votes`.

    Returns:
        The logits of the mean probabilities, and the logits of the mixed bins (of heads without bins, the mean
        distances), fp32.
    """
    log_votes = votes.to(heads[0].class_logits.device).log()[:, None, :, None]
    logits = torch.stack([head.class_logits.float() for head in heads])
    yes = log_votes + functional.logsigmoid(logits)
    no = log_votes + functional.logsigmoid(-logits)
    voices = yes.amax(dim=2).log_softmax(dim=0)  # (heads, batch, anchors), of the weighted top scores
    boxes = torch.stack([head.boxes.float() for head in heads])
    return BranchOutputs(yes.logsumexp(dim=0) - no.logsumexp(dim=0), _mixed_boxes(boxes, voices))


def _mixed_boxes(boxes: Tensor, voices: Tensor) -> Tensor:
    """(heads, batch, 4 · bins, anchors) and log voices (heads, batch, anchors) → (batch, 4 · bins, anchors)."""
    heads, batch, outputs, anchors = boxes.shape
    if outputs == 4:
        return (boxes * voices.exp()[:, :, None]).sum(dim=0)
    sides = boxes.reshape(heads, batch, 4, outputs // 4, anchors).log_softmax(dim=3)
    return (sides + voices[:, :, None, None]).logsumexp(dim=0).reshape(batch, outputs, anchors)
