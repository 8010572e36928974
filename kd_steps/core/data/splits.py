"""Train, validation and test, cut so that no board and no near-duplicate stands on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kd_steps.core.data.near_duplicates import near_any, same_side
from kd_steps.core.data.source import SourceSplit

# Test pictures and defect-free boards are both looked at only by `evaluate`: one side. Unlabelled ones are trained on.
SIDE = {"train": "train", "val": "val", "test": "test", "defect_free": "test", "unlabelled": "train"}


@dataclass(frozen=True)
class SplitRules:
    """How to cut: shares (0-1), the near-duplicate distance in bits, and the seed."""

    validation_fraction: float
    test_fraction: float
    near_duplicate_bits: int
    seed: int


@dataclass(frozen=True)
class Candidate:
    """What the cut needs to know of one picture.

    ``declared`` is the source's own split, if it has one; ``keep_in_train`` keeps its board out of validation;
    ``unsure`` that it may show objects nobody boxed.
    """

    name: str
    group: str
    declared: SourceSplit | None
    pixel_hash: str
    phash: int
    n_objects: int
    keep_in_train: bool = False
    unsure: bool = False


@dataclass(frozen=True)
class SplitPlan:
    """The split of each picture (None: left out), what the user should know, and what must be mended first.

    What there is to know of unlabelled pictures is kept apart: it must not change what is told of the labelled ones.
    """

    splits: list[SourceSplit | None]
    warnings: list[str]
    faults: list[str]
    unlabelled_warnings: list[str] = field(default_factory=list)


def cut_splits(candidates: Sequence[Candidate], rules: SplitRules) -> SplitPlan:
    """Give every picture its split. What the source declares stays; the rest is cut by board and near-duplicate.

    A test split is cut from train only if the source declares none, validation likewise. Defect-free boards of a group
    that the cut puts into training are left out: they would make false alarms look rarer than they are.
    """
    faults = _equal_content(candidates)
    splits: list[SourceSplit | None] = [c.declared for c in candidates]
    warnings: list[str] = []
    if "test" not in splits:
        if "train" in splits:
            warnings.append("the source declares no test split: it was cut from the training pictures")
        splits = [None if split == "train" else split for split in splits]
    if any(split is None for split in splits):
        faults += _cut_test(candidates, splits, warnings, rules)
    if "val" not in splits:
        faults += _cut_validation(candidates, splits, rules)
    _name_defect_free(candidates, splits, warnings)
    faults += [
        f"the {split} split is empty: {mend}"
        for split, mend in (
            ("train", "give the source more pictures, or check its train list"),
            ("val", "raise prepare.splits.validation_fraction, or check the source's val list"),
            ("test", "raise prepare.splits.test_fraction, or check the source's test list"),
        )
        if split not in splits
    ]
    warnings += _single_boards(candidates, splits)
    warnings += _leaks(candidates, splits, rules.near_duplicate_bits)
    return SplitPlan(splits, warnings, faults)


def closest_subset(sizes: Sequence[int], target: float, seed: int) -> list[int]:
    """Indices of the items whose sizes add up closest to ``target``; never none, never all (n ≥ 2).

    Exact (dynamic programming over the reachable sums), and deterministic: the seed orders the items, so that it
    decides among equally good sets.
    """
    order = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    total = sum(sizes)
    ceiling = min(total - 1, int(2 * target) + max(sizes))
    last_item = np.full(ceiling + 1, -1, dtype=np.int64)  # the item that first reached a sum
    reached = np.zeros(ceiling + 1, dtype=bool)
    reached[0] = True
    for item in order:
        size = sizes[item]
        if size > ceiling:
            continue
        fresh = reached[: ceiling + 1 - size] & ~reached[size:]
        last_item[size:][fresh] = item
        reached[size:] |= fresh
        if round(target) <= ceiling and round(target) > 0 and reached[round(target)]:
            break
    sums = np.flatnonzero(reached)[1:]
    if not len(sums):
        return [int(np.argmin(sizes))]
    rest = int(sums[np.argmin(np.abs(sums - target))])
    chosen = []
    while rest:
        item = int(last_item[rest])
        chosen.append(item)
        rest -= sizes[item]
    return sorted(chosen)


def _equal_content(candidates: Sequence[Candidate]) -> list[str]:
    first: dict[tuple[str, str], Candidate] = {}
    faults = []
    for candidate in candidates:
        if candidate.declared is None:
            continue
        side = SIDE[candidate.declared]
        for other_side in ("train", "val", "test"):
            other = first.get((candidate.pixel_hash, other_side))
            if other is not None and other_side != side:
                faults.append(
                    f"{candidate.name} ({candidate.declared}) and {other.name} ({other.declared}) are the same picture "
                    "in two splits; delete one of them"
                )
        first.setdefault((candidate.pixel_hash, side), candidate)
    return faults


def _labels(candidates: Sequence[Candidate], members: list[int], bits: int) -> NDArray[np.int64]:
    hashes = np.array([candidates[i].phash for i in members], dtype=np.uint64)
    return same_side([candidates[i].group for i in members], hashes, bits)


def _cut_test(
    candidates: Sequence[Candidate], splits: list[SourceSplit | None], warnings: list[str], rules: SplitRules
) -> list[str]:
    """Place the pictures without a declared split, in ``splits``; returns faults."""
    labels = _labels(candidates, list(range(len(candidates))), rules.near_duplicate_bits).tolist()
    has_test = "test" in splits
    # Without test pictures of its own, a source's defect-free boards follow the cut; see below.
    sides = ["test" if split == "defect_free" and has_test else split for split in splits]
    side_of: dict[int, SourceSplit] = {}
    for wanted in ("train", "val", "test"):  # the later wins: what is near a test picture is not trained on
        side_of |= {label: wanted for label, side in zip(labels, sides, strict=True) if side == wanted}
    loose: dict[int, int] = {}
    for label, split in zip(labels, splits, strict=True):
        if split is None and label not in side_of:
            loose[label] = loose.get(label, 0) + 1
    if not has_test and len(loose) + len(set(side_of)) < 2:
        return [_one_board(sum(loose.values()), "test")]
    if not has_test and loose:
        names = list(loose)
        trainable = sum(split in (None, "train") for split in splits)
        if len(names) == 1:
            chosen = [0]
        else:
            chosen = closest_subset([loose[name] for name in names], rules.test_fraction * trainable, rules.seed)
        side_of |= {names[i]: "test" for i in chosen}
    for label in loose:
        side_of.setdefault(label, "train")
    left_out = 0
    for i, label in enumerate(labels):
        if splits[i] is None:
            splits[i] = side_of[label]
        elif splits[i] == "defect_free" and not has_test and side_of.get(label, "test") != "test":
            splits[i] = None
            left_out += 1
    if left_out:
        warnings.append(f"{left_out} defect-free pictures belong to boards on the training side and were left out")
    return []


def _cut_validation(candidates: Sequence[Candidate], splits: list[SourceSplit | None], rules: SplitRules) -> list[str]:
    """Move part of train to val, in ``splits``; returns faults."""
    members = [i for i, split in enumerate(splits) if split == "train"]
    if not members:
        return []
    labels = _labels(candidates, members, rules.near_duplicate_bits)
    kept = {int(label) for label, i in zip(labels, members, strict=True) if candidates[i].keep_in_train}
    names, sizes = np.unique(labels, return_counts=True)
    if len(names) < 2:
        return [_one_board(len(members), "validation")]
    free = np.array([int(name) not in kept for name in names])
    if not free.any():
        return [
            "every training board shows a held-out class that has few pictures: none is left for validation; hold "
            "out fewer classes (prepare.new_parts.classes), lower prepare.new_parts.shots, or add boards"
        ]
    names, sizes = names[free], sizes[free]
    target = rules.validation_fraction * len(members)
    chosen = closest_subset(sizes.tolist(), target, rules.seed) if len(names) > 1 else [0]
    in_validation = np.isin(labels, names[chosen])
    for i, moved in zip(members, in_validation.tolist(), strict=True):
        if moved:
            splits[i] = "val"
    return []


def _one_board(n: int, wanted: str) -> str:
    return (
        f"all {n} training pictures are one board, or near-duplicates of each other: no {wanted} split can be cut "
        "without a leak; set prepare.splits.group_pattern, lower prepare.splits.near_duplicate_bits, or add boards"
    )


def _name_defect_free(candidates: Sequence[Candidate], splits: list[SourceSplit | None], warnings: list[str]) -> None:
    """Where a source has no defect-free boards of its own, its test pictures without objects are used as such."""
    if "defect_free" in splits:
        return
    empty = [i for i, c in enumerate(candidates) if splits[i] == "test" and not c.n_objects and not c.unsure]
    if not empty:
        warnings.append(
            "no defect-free pictures: false alarms on good boards cannot be measured, so the gate will let no engine "
            "pass; give the source some (test pictures without objects, or a split named defect_free)"
        )
        return
    for i in empty:
        splits[i] = "defect_free"
    warnings.append(f"{len(empty)} test pictures without objects are used as the defect-free boards")


def _single_boards(candidates: Sequence[Candidate], splits: Sequence[SourceSplit | None]) -> list[str]:
    """A warning for each judged split whose pictures are all of one board: no interval can be told from it."""
    told = []
    for split in ("test", "defect_free"):
        boards = [c.group for c, own in zip(candidates, splits, strict=True) if own == split]
        if len(boards) > 1 and len(set(boards)) == 1:
            told.append(
                f"all {len(boards)} {split} pictures count as one board ('{boards[0]}'), so the gate will let no "
                "engine pass; prepare.splits.group_pattern tells which board a picture shows"
            )
    return told


def _leaks(candidates: Sequence[Candidate], splits: list[SourceSplit | None], bits: int) -> list[str]:
    """Boards and near-duplicates that stand on the training and on the test side; only a declared split can do so."""
    sides = [None if split is None else SIDE[split] for split in splits]
    test = [i for i, side in enumerate(sides) if side == "test"]
    rest = [i for i, side in enumerate(sides) if side in ("train", "val")]
    if not test or not rest:
        return []
    warnings = []
    shared = {candidates[i].group for i in test} & {candidates[i].group for i in rest}
    if shared:
        n = sum(candidates[i].group in shared for i in test)
        warnings.append(
            f"{n} of {len(test)} test and defect-free pictures come from {len(shared)} boards that are also trained "
            "on (the source's own split): results on unseen boards may be lower"
        )
    hashes = np.array([c.phash for c in candidates], dtype=np.uint64)
    near = int(near_any(hashes[test], hashes[rest], bits).sum())
    if near:
        warnings.append(
            f"{near} of {len(test)} test and defect-free pictures have a near-duplicate (at most {bits} of 64 bits "
            "apart) on the training side (the source's own split)"
        )
    return warnings
