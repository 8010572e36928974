from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.data.splits import SIDE, Candidate, SplitRules, closest_subset, cut_splits

RULES = SplitRules(validation_fraction=0.2, test_fraction=0.2, near_duplicate_bits=4, seed=0)


def picture(number: int, group: str, declared: str | None = None, phash: int | None = None) -> Candidate:
    """Hashes of different pictures are far apart: each number's bits are repeated over the 64."""
    far = (number + 1) * 0x9E3779B97F4A7C15 % 2**64
    return Candidate(f"{number}.jpg", group, declared, f"pixels-{number}", far if phash is None else phash, 1)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 40), min_size=2, max_size=9), st.floats(0.05, 0.95), st.integers(0, 9))
def test_the_subset_is_the_closest_of_all(sizes: list[int], share: float, seed: int) -> None:
    target = share * sum(sizes)
    chosen = closest_subset(sizes, target, seed)
    assert 0 < len(chosen) < len(sizes)
    assert len(set(chosen)) == len(chosen)
    subsets = (c for n in range(1, len(sizes)) for c in combinations(sizes, n))
    best = min(abs(sum(subset) - target) for subset in subsets)
    assert abs(sum(sizes[i] for i in chosen) - target) <= max(best, 0.5 if best < 0.5 else best)


@given(
    groups=st.lists(st.sampled_from("abcdefghij"), min_size=4, max_size=60).filter(lambda g: len(set(g)) > 2),
    copies=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=5),
    seed=st.integers(0, 5),
)
def test_no_board_and_no_near_duplicate_straddles(groups: list[str], copies: list[tuple[int, int]], seed: int) -> None:
    pictures = [picture(i, group) for i, group in enumerate(groups)]
    for a, b in copies:
        if a < len(pictures) and b < len(pictures):
            pictures[a] = replace(pictures[a], phash=pictures[b].phash ^ 0b101)
    plan = cut_splits(pictures, replace(RULES, seed=seed))
    if plan.faults:
        assert all("one board" in fault or "empty" in fault for fault in plan.faults)
        return
    assert plan == cut_splits(pictures, replace(RULES, seed=seed))
    for a, split_a in zip(pictures, plan.splits, strict=True):
        for b, split_b in zip(pictures, plan.splits, strict=True):
            near = (a.phash ^ b.phash).bit_count() <= RULES.near_duplicate_bits
            if a.group == b.group or near:
                assert split_a is not None
                assert split_b is not None
                assert SIDE[split_a] == SIDE[split_b]


def test_declared_splits_stay_and_validation_is_cut_by_board() -> None:
    train = [picture(i, f"board-{i // 10}", "train") for i in range(100)]
    test = [picture(i, "board-0", "test") for i in range(100, 110)]
    plan = cut_splits([*train, *test], RULES)
    assert plan.faults == []
    assert plan.splits[100:] == ["test"] * 10
    assert plan.splits.count("val") == 20
    assert any("come from 1 boards that are also trained on" in warning for warning in plan.warnings)


def test_what_is_near_a_declared_test_picture_is_not_trained_on() -> None:
    pictures = [picture(0, "a", "test"), picture(1, "b", phash=picture(0, "a").phash ^ 1)]
    pictures += [picture(i, str(i)) for i in range(2, 30)]
    plan = cut_splits(pictures, RULES)
    assert plan.splits[1] == "test"
    assert plan.splits.count("test") == 2


def test_a_source_with_train_and_val_gets_a_test_cut_from_train() -> None:
    pictures = [picture(i, str(i), "train" if i < 40 else "val") for i in range(50)]
    plan = cut_splits(pictures, RULES)
    assert plan.splits.count("test") == 8
    assert plan.splits[40:] == ["val"] * 10
    assert any("no test split" in warning for warning in plan.warnings)


def test_defect_free_boards_of_training_boards_are_left_out_of_a_cut() -> None:
    pictures = [picture(i, f"board-{i % 10}") for i in range(50)]
    pictures += [replace(picture(i, f"board-{i % 10}", "defect_free"), n_objects=0) for i in range(50, 70)]
    plan = cut_splits(pictures, RULES)
    test_boards = {p.group for p, split in zip(pictures, plan.splits, strict=True) if split == "test"}
    for candidate, split in zip(pictures[50:], plan.splits[50:], strict=True):
        assert split == ("defect_free" if candidate.group in test_boards else None)


def test_defect_free_boards_of_their_own_stay_without_declared_test_pictures() -> None:
    pictures = [picture(i, str(i), "train" if i < 30 else "val") for i in range(38)]
    pictures += [replace(picture(i, str(i), "defect_free"), n_objects=0) for i in range(38, 48)]
    pictures += [picture(48, "48")]
    plan = cut_splits(pictures, RULES)
    assert plan.splits[38:48] == ["defect_free"] * 10
    assert not any("left out" in warning for warning in plan.warnings)


def test_test_pictures_without_objects_serve_as_defect_free_boards() -> None:
    pictures = [replace(picture(i, str(i)), n_objects=i % 2) for i in range(40)]
    plan = cut_splits(pictures, RULES)
    assert plan.splits.count("defect_free") > 0
    assert all(pictures[i].n_objects == 0 for i, split in enumerate(plan.splits) if split == "defect_free")


def test_pictures_that_may_show_something_are_no_defect_free_boards() -> None:
    pictures = [replace(picture(i, str(i)), n_objects=i % 2, unsure=i % 4 == 0) for i in range(80)]
    plan = cut_splits(pictures, RULES)
    free = [i for i, split in enumerate(plan.splits) if split == "defect_free"]
    assert free
    assert all(i % 4 == 2 for i in free)


def test_test_pictures_of_one_board_are_warned_of() -> None:
    pictures = [picture(i, str(i), "train") for i in range(20)] + [picture(i, "one", "test") for i in range(20, 25)]
    told = "\n".join(cut_splits(pictures, RULES).warnings)
    assert "all 5 test pictures count as one board ('one'), so the gate will let no engine pass" in told
    assert "group_pattern" in told


def test_boards_kept_in_train_never_go_to_validation() -> None:
    for seed in range(20):
        pictures = [replace(picture(i, str(i // 2), "train"), keep_in_train=i % 4 == 0) for i in range(20)]
        pictures.append(picture(99, "t", "test"))
        splits = cut_splits(pictures, replace(RULES, seed=seed)).splits
        assert "val" in splits
        assert all(splits[i] == "train" for i in range(20) if (i // 2) % 2 == 0)


def test_one_content_in_two_splits_names_both_files() -> None:
    pictures = [picture(i, str(i), "train") for i in range(10)]
    pictures.append(replace(picture(10, "t", "test"), pixel_hash=pictures[3].pixel_hash))
    faults = cut_splits(pictures, RULES).faults
    assert len(faults) == 1
    assert "10.jpg (test) and 3.jpg (train) are the same picture" in faults[0]


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (["train"] * 8, "no test split can be cut"),
        (["test"] * 8, "the train split is empty"),
        (["train"] * 4 + ["test"] * 4, "no validation split can be cut"),
    ],
)
def test_an_empty_split_is_a_fault_with_its_mend(declared: list[str], told: str) -> None:
    faults = cut_splits([picture(i, "one", split) for i, split in enumerate(declared)], RULES).faults
    assert any(told in fault for fault in faults)


def test_each_split_has_its_own_share() -> None:
    rules = replace(RULES, validation_fraction=0.3, test_fraction=0.1)
    splits = cut_splits([picture(i, str(i)) for i in range(100)], rules).splits
    assert (splits.count("test"), splits.count("val")) == (10, 27)


def test_what_is_near_train_and_test_pictures_is_not_trained_on() -> None:
    pictures = [picture(0, "a", "train"), picture(1, "a", "test"), picture(2, "a")]
    assert cut_splits([*pictures, *(picture(i, str(i)) for i in range(3, 30))], RULES).splits[2] == "test"


def test_what_is_of_a_defect_free_board_beside_declared_test_pictures_is_not_trained_on() -> None:
    pictures = [picture(0, "good", "defect_free"), picture(1, "t", "test"), picture(2, "good")]
    assert cut_splits([*pictures, *(picture(i, str(i)) for i in range(3, 30))], RULES).splits[2] == "test"


def test_near_duplicates_across_declared_splits_are_counted_on_the_test_side() -> None:
    pictures = [picture(i, str(i), "train") for i in range(10)] + [picture(99, "v", "val")]
    pictures += [picture(20 + i, f"t{i}", "test", phash=pictures[0].phash ^ 1 << i) for i in range(3)]
    told = "\n".join(cut_splits([*pictures, picture(30, "t9", "test")], RULES).warnings)
    assert "3 of 4 test and defect-free pictures have a near-duplicate" in told
