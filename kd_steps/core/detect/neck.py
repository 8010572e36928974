"""What a detector's neck shows of a view: attention maps, pooled channels, and the vectors at the best anchors.

The neck's outputs are the head's inputs, one map a level; a cell of a level is an anchor of the head. All three are
small enough to cache, where whole maps are not: the vectors of the best-scored anchors stand for the maps, because a
score-weighted feature loss (as in Ultralytics' own distillation) takes nearly all of its weight from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd_steps.core.detect.answers import Answer
from kd_steps.core.detect.outputs import top_score


@dataclass(frozen=True)
class NeckAnswer:
    """What a neck shows of one view; what was not asked for is empty.

    Attributes:
        attention: mean of the squared channels of each cell, all levels end to end, as a share of its level's largest,
            0-1, shape (cells,).
        pooled: mean of each channel, all levels end to end, shape (channels,).
        rows: which of the kept anchors have a vector, ascending, shape (k,).
        vectors: one array a level, shape (anchors of that level, its channels); none where they were not asked for.
    """

    attention: NDArray[np.floating[Any]]
    pooled: NDArray[np.floating[Any]]
    rows: NDArray[np.integer[Any]]
    vectors: tuple[NDArray[np.floating[Any]], ...]


@dataclass(frozen=True)
class VectorBatch:
    """The vectors of one level, laid end to end over a batch.

    Attributes:
        sample: which view each belongs to, int64 of shape (m,).
        cell: its cell in the level, row by row, int64 of shape (m,).
        values: shape (m, channels).
        score: the teacher's top class score there, shape (m,).
    """

    sample: Tensor
    cell: Tensor
    values: Tensor
    score: Tensor


@dataclass(frozen=True)
class NeckBatch:
    """What a neck shows of a batch of views.

    Attributes:
        attention: shape (batch, cells), or (batch, 0).
        pooled: shape (batch, channels), or (batch, 0).
        vectors: one a level; none where they were not asked for.
    """

    attention: Tensor
    pooled: Tensor
    vectors: tuple[VectorBatch, ...]

    def to(self, device: torch.device) -> NeckBatch:
        """The same on another device."""
        vectors = tuple(
            VectorBatch(*(t.to(device) for t in (v.sample, v.cell, v.values, v.score))) for v in self.vectors
        )
        return NeckBatch(self.attention.to(device), self.pooled.to(device), vectors)


def spatial_attention(features: Tensor) -> Tensor:
    """Mean of the squared channels, (batch, channels, height, width) → (batch, cells), fp32."""
    return features.float().square().mean(dim=1).flatten(1)


def pooled_channels(features: Sequence[Tensor]) -> Tensor:
    """Mean of every channel of every level, → (batch, channels of all levels), fp32."""
    return torch.cat([level.float().mean(dim=(2, 3)) for level in features], dim=1)


def neck_answers(
    features: Sequence[Tensor], answers: Sequence[Answer], attention: bool, pooled: bool, max_vectors: int
) -> list[NeckAnswer]:
    """What a neck shows of a batch of views.

    Args:
        features: one map a level, shape (batch, channels, height, width).
        answers: what the head says of the same views; the best-scored of its anchors get a vector.
        attention: whether attention maps are asked for.
        pooled: whether pooled channels are asked for.
        max_vectors: most vectors a view.
    """
    nothing = torch.zeros(len(answers), 0)
    maps = [spatial_attention(level) for level in features] if attention else []
    relative = [level / level.amax(dim=1, keepdim=True).clamp(min=1e-12) for level in maps]
    attention_maps = (torch.cat(relative, dim=1) if attention else nothing).cpu().numpy()
    means = (pooled_channels(features) if pooled else nothing).cpu().numpy()
    cells = [level.shape[2] * level.shape[3] for level in features]
    found = []
    for sample, answer in enumerate(answers):
        rows = np.sort(np.argsort(-answer.class_logits.max(axis=1, initial=-np.inf), kind="stable")[:max_vectors])
        vectors = [
            level[sample].flatten(1)[:, torch.from_numpy(inside).to(level.device)].T.float().contiguous().cpu().numpy()
            for level, inside in zip(features, by_level(answer.anchors[rows], cells), strict=True)
        ]
        asked = tuple(vectors) if max_vectors else ()
        found.append(NeckAnswer(attention_maps[sample], means[sample], rows.astype(np.int32), asked))
    return found


def by_level(anchors: NDArray[np.integer[Any]], cells: Sequence[int]) -> list[NDArray[np.int64]]:
    """Ascending anchor indices → the cells of each level.

    Args:
        anchors: shape (k,).
        cells: how many a level has.
    """
    ends = np.cumsum(cells)
    parts = np.split(anchors.astype(np.int64), np.searchsorted(anchors, ends))
    return [part - (end - count) for part, end, count in zip(parts, ends, cells, strict=False)]


def batch_necks(necks: Sequence[NeckAnswer], answers: Sequence[Answer], cells: Sequence[int]) -> NeckBatch:
    """Lay what a neck shows of a batch of views end to end.

    Args:
        necks: one a view.
        answers: what the head says of the same views.
        cells: how many a level has.
    """
    places = [by_level(a.anchors[n.rows], cells) for n, a in zip(necks, answers, strict=True)]
    scores = [
        torch.split(top_score(torch.from_numpy(answer.class_logits[neck.rows])), [len(level) for level in place])
        for neck, answer, place in zip(necks, answers, places, strict=True)
    ]
    levels = []
    for level in range(len(necks[0].vectors)):
        counts = torch.tensor([len(place[level]) for place in places])
        levels.append(
            VectorBatch(
                sample=torch.repeat_interleave(torch.arange(len(necks)), counts),
                cell=torch.from_numpy(np.concatenate([place[level] for place in places])),
                values=torch.from_numpy(np.concatenate([n.vectors[level] for n in necks]).astype(np.float32)),
                score=torch.cat([score[level] for score in scores]),
            )
        )
    return NeckBatch(
        attention=torch.from_numpy(np.stack([n.attention for n in necks]).astype(np.float32)),
        pooled=torch.from_numpy(np.stack([n.pooled for n in necks]).astype(np.float32)),
        vectors=tuple(levels),
    )


def vectors_at(features: Tensor, batch: VectorBatch) -> Tensor:
    """A level's own vectors where the teacher's are, (batch, channels, height, width) → (m, channels)."""
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)  # a view of a channels-last map
    return rows.index_select(0, batch.sample * (features.shape[2] * features.shape[3]) + batch.cell)
