"""Pictures without labels beside the labelled ones: they never change the cut, never leak and never count twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kd_steps.core.data.naming import told_files
from kd_steps.core.data.near_duplicates import near_any
from kd_steps.core.data.sample import UNLABELLED
from kd_steps.core.data.source import SourceSplit
from kd_steps.core.data.splits import SIDE, Candidate, SplitPlan, SplitRules, cut_splits


def cut_beside_unlabelled(candidates: Sequence[Candidate], rules: SplitRules) -> SplitPlan:
    """As :func:`kd_steps.core.data.splits.cut_splits`, with candidates whose declared split is ``unlabelled``.

    The cut sees the labelled pictures alone, so it is the same with any unlabelled ones or none. An unlabelled picture
    is left out if it would flatter validation or test (the same picture as one of theirs, a near-duplicate, the same
    board), or if another picture of the source has its content, whatever became of that one.
    """
    labelled = [c for c in candidates if c.declared != UNLABELLED]
    unlabelled = [c for c in candidates if c.declared == UNLABELLED]
    cut = cut_splits(labelled, rules)
    if not unlabelled:
        return cut
    reasons = _reasons(unlabelled, labelled, cut.splits, rules.near_duplicate_bits)
    of_labelled, of_unlabelled = iter(cut.splits), iter(reasons)
    splits: list[SourceSplit | None] = []
    for candidate in candidates:
        if candidate.declared == UNLABELLED:
            splits.append(UNLABELLED if next(of_unlabelled) is None else None)
        else:
            splits.append(next(of_labelled))
    return replace(cut, splits=splits, unlabelled_warnings=_warnings(unlabelled, reasons))


def _reasons(
    unlabelled: Sequence[Candidate], labelled: Sequence[Candidate], splits: Sequence[SourceSplit | None], bits: int
) -> list[str | None]:
    """Why each unlabelled picture is left out; None: it stays."""
    judged = [c for c, split in zip(labelled, splits, strict=True) if split is not None and SIDE[split] != "train"]
    hashes, theirs = (np.array([c.phash for c in group], dtype=np.uint64) for group in (unlabelled, judged))
    near = near_any(hashes, theirs, bits).tolist()
    boards, judged_content = {c.group for c in judged}, {c.pixel_hash for c in judged}
    content = {c.pixel_hash for c in labelled}
    reasons: list[str | None] = []
    for candidate, is_near in zip(unlabelled, near, strict=True):
        if is_near or candidate.pixel_hash in judged_content:
            reasons.append(
                f"are the same as a validation, test or defect-free picture or nearly so (at most {bits} of 64 bits "
                "apart; if they only look alike, lower prepare.splits.near_duplicate_bits)"
            )
        elif candidate.group in boards:
            reasons.append("show a board of the validation, test or defect-free pictures")
        else:
            reasons.append("have the content of another picture" if candidate.pixel_hash in content else None)
        content.add(candidate.pixel_hash)
    return reasons


def _warnings(unlabelled: Sequence[Candidate], reasons: Sequence[str | None]) -> list[str]:
    """One warning a reason: how many pictures it left out, and the first of them."""
    names_of: dict[str, list[str]] = {}
    for candidate, reason in zip(unlabelled, reasons, strict=True):
        if reason is not None:
            names_of.setdefault(reason, []).append(candidate.name)
    return [
        f"{len(names)} of {len(unlabelled)} unlabelled pictures {reason} and were left out: {told_files(names)}"
        for reason, names in names_of.items()
    ]
