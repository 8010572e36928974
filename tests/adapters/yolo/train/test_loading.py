"""The order of an epoch: shared between ranks, its own each epoch, and the same after a resume."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from view_fixture import content, view_dataset


def sampler(*args, **options):
    from kd_steps.adapters.yolo.train.loading import EpochSampler

    return EpochSampler(*args, **options)


@settings(deadline=None, max_examples=40)
@example(count=1, seed=0, world=4)
@given(count=st.integers(1, 40), seed=st.integers(0, 5), world=st.integers(1, 4))
def test_ranks_share_an_epoch_without_overlap_but_padding(count, seed, world):
    ranks = [sampler(count, seed, rank, world) for rank in range(world)]
    for epoch in range(3):
        parts = [list(rank) for rank in ranks]
        assert len({len(part) for part in parts}) == 1
        assert all(len(part) == len(rank) for part, rank in zip(parts, ranks, strict=True))
        drawn = [index for part in parts for e, index in part if e == epoch]
        assert set(drawn) == set(range(count))
        assert len(drawn) - count < world


def test_epochs_are_permutations_of_their_own_and_a_resume_sees_the_same():
    whole = sampler(30, 3)
    epochs = [list(whole) for _ in range(4)]
    orders = [tuple(index for _, index in epoch) for epoch in epochs]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len(set(orders)) == 4
    resumed = sampler(30, 3)
    resumed.start_at(2)
    assert [list(resumed), list(resumed)] == epochs[2:]
    assert list(sampler(30, 4)) != epochs[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_goes_on_with_its_epoch(training_project, workers):
    from ultralytics.data.build import InfiniteDataLoader

    order = sampler(8, 0)
    loader = InfiniteDataLoader(
        view_dataset(training_project), batch_size=4, sampler=order, num_workers=workers, collate_fn=lambda batch: batch
    )
    order.start_at(2)
    expected, source = sampler(8, 0), view_dataset(training_project)
    expected.start_at(2)
    for _ in range(2):
        wanted = [content(source[place]) for place in expected]
        assert [content(sample) for batch in loader for sample in batch] == wanted
    loader.close()


def test_few_shot_epochs_hold_their_share_of_new_parts():
    few = sampler(20, 0, new_count=3, draws=40, new_share=0.35)
    for epoch in range(3):
        drawn = list(few)
        assert len(drawn) == len(few) == 40
        assert {e for e, _ in drawn} == {epoch}
        assert sum(index >= 20 for _, index in drawn) == 14
        assert max(index for _, index in drawn) == 22
