from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.core.data.splits import Candidate, SplitRules, cut_splits
from kd_steps.core.data.unlabelled import cut_beside_unlabelled

RULES = SplitRules(validation_fraction=0.2, test_fraction=0.2, near_duplicate_bits=2, seed=0)
JUDGED = ("val", "test", "defect_free")


def picture(number: int, group: str, declared: str | None = None) -> Candidate:
    """Hashes of different pictures are far apart: each number's bits are spread over the 64."""
    return Candidate(f"{number}.jpg", group, declared, f"pixels-{number}", (number + 1) * 0x9E3779B97F4A7C15 % 2**64, 1)  # type: ignore[arg-type]


LABELLED = [picture(n, f"board-{n // 2}", ("train", "val", "test", "defect_free", None)[n % 5]) for n in range(20)]

# Of an unlabelled picture: the labelled one it is near, if any; how many bits apart; whether it has its content; board.
LIKENESS = st.tuples(
    st.none() | st.integers(0, 19),
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from(["own", *(f"board-{n}" for n in range(12))]),
)


def unlabelled(place: int, likeness: tuple[int | None, int, bool, str]) -> Candidate:
    other, bits, same_content, group = likeness
    found = replace(picture(1000 + place, group, "unlabelled"), n_objects=0)
    if other is None:
        return found
    found = replace(found, phash=LABELLED[other].phash ^ (1 << bits) - 1)
    return replace(found, pixel_hash=LABELLED[other].pixel_hash, phash=LABELLED[other].phash) if same_content else found


@settings(deadline=None)
@given(likenesses=st.lists(LIKENESS, max_size=12), copies=st.integers(0, 3), random=st.randoms(use_true_random=False))
def test_exactly_what_would_leak_or_count_twice_is_left_out(likenesses, copies, random) -> None:
    line = [unlabelled(place, likeness) for place, likeness in enumerate(likenesses)]
    line += [replace(c, name=f"copy of {c.name}", group=f"copy-{c.name}") for c in line[:copies]]
    mixed = random.sample([*LABELLED, *line], len(LABELLED) + len(line))
    labelled = [c for c in mixed if c.declared != "unlabelled"]
    alone, plan = cut_splits(labelled, RULES), cut_beside_unlabelled(mixed, RULES)
    assert [s for c, s in zip(mixed, plan.splits, strict=True) if c.declared != "unlabelled"] == alone.splits
    assert plan.faults == alone.faults
    judged = [c for c, split in zip(labelled, alone.splits, strict=True) if split in JUDGED]
    seen = {c.pixel_hash for c in labelled}
    left_out = []
    for candidate, split in zip(mixed, plan.splits, strict=True):
        if candidate.declared != "unlabelled":
            continue
        leaks = any((candidate.phash ^ c.phash).bit_count() <= 2 or candidate.group == c.group for c in judged)
        assert split == (None if leaks or candidate.pixel_hash in seen else "unlabelled")
        seen.add(candidate.pixel_hash)
        left_out += [candidate.name] if split is None else []
    told = plan.unlabelled_warnings
    assert plan.warnings == alone.warnings
    assert sum(int(warning.split(" of ")[0]) for warning in told) == len(left_out)
    assert all(f"of {len(line)} unlabelled pictures" in warning for warning in told)
    if len(left_out) <= 5:
        assert all(any(name in warning for warning in told) for name in left_out)


def test_every_reason_is_told_with_names_and_a_mend() -> None:
    splits = {c.name: c.declared for c in LABELLED}
    assert (splits["2.jpg"], splits["0.jpg"]) == ("test", "train")
    near = replace(picture(100, "x", "unlabelled"), phash=LABELLED[2].phash ^ 1)
    board = picture(101, LABELLED[2].group, "unlabelled")
    trained = replace(picture(102, "y", "unlabelled"), pixel_hash=LABELLED[0].pixel_hash)
    looks_alike = replace(picture(103, "z", "unlabelled"), phash=LABELLED[0].phash ^ 1)
    plan = cut_beside_unlabelled([*LABELLED, near, board, trained, looks_alike], RULES)
    assert plan.splits[-4:] == [None, None, None, "unlabelled"], "what only resembles a train picture is no leak"
    told = plan.unlabelled_warnings
    assert "100.jpg" in told[0]
    assert "lower prepare.splits.near_duplicate_bits" in told[0]
    assert "1 of 4 unlabelled pictures show a board of the validation" in told[1]
    assert "101.jpg" in told[1]
    assert "102.jpg" in told[2]


def test_many_pictures_are_counted_and_the_first_are_named() -> None:
    line = [replace(picture(n, "x", "unlabelled"), phash=LABELLED[2].phash) for n in range(100, 130)]
    warning = cut_beside_unlabelled([*LABELLED, *line], RULES).unlabelled_warnings[-1]
    assert warning.startswith("30 of 30 unlabelled pictures")
    assert warning.endswith("100.jpg, 101.jpg, 102.jpg, 103.jpg, 104.jpg and 25 more")


def test_without_any_it_is_the_plain_cut() -> None:
    assert cut_beside_unlabelled(LABELLED, RULES) == cut_splits(LABELLED, RULES)
    assert np.unique([c.phash for c in LABELLED]).size == len(LABELLED)
