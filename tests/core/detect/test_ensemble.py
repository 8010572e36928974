"""Several teachers as one: against loops over probabilities, and where the answer is known beforehand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kd_steps.core.detect.ensemble import EnsembleMember, class_shares, in_order, merge_heads
from kd_steps.core.detect.outputs import BranchOutputs

CLASSES = ("open", "short", "spur")


def heads(count, bins=4, seed=0, anchors=5, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return [
        BranchOutputs(
            torch.randn(batch, 3, anchors, generator=generator) * 3,
            torch.randn(batch, 4 * bins, anchors, generator=generator) * 2,
        )
        for _ in range(count)
    ]


def shares_of(*weights):
    return class_shares([EnsembleMember(f"t{n}", CLASSES, weight) for n, weight in enumerate(weights)], CLASSES)


@pytest.mark.parametrize("bins", [1, 4])
def test_merged_outputs_are_the_mean_probabilities_and_the_mixed_boxes(bins):
    given_heads, weights = heads(3, bins), [1.0, 2.0, 0.5]
    merged = merge_heads(given_heads, shares_of(*weights))
    shares = [weight / sum(weights) for weight in weights]
    expected = sum(s * head.class_logits.double().sigmoid() for s, head in zip(shares, given_heads, strict=True))
    assert merged.class_logits.double().sigmoid() == pytest.approx(expected, abs=1e-6)
    for sample in range(2):
        for anchor in range(5):
            box_shares = torch.tensor(
                [
                    s * h.class_logits[sample, :, anchor].sigmoid().max()
                    for s, h in zip(shares, given_heads, strict=True)
                ]
            )
            box_shares = box_shares / box_shares.sum()
            sides = torch.stack([head.boxes[sample, :, anchor].reshape(4, bins) for head in given_heads])
            found = merged.boxes[sample, :, anchor].reshape(4, bins)
            if bins == 1:
                assert found == pytest.approx((sides * box_shares[:, None, None]).sum(dim=0), abs=1e-5)
            else:
                mixed = (sides.softmax(dim=-1) * box_shares[:, None, None]).sum(dim=0)
                assert found.softmax(dim=-1) == pytest.approx(mixed, abs=1e-5)


@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_equal_teachers_say_what_one_says_whatever_they_weigh(seed, weight):
    (one,) = heads(1, seed=seed)
    merged = merge_heads([one, one], shares_of(1.0, weight))
    assert merged.class_logits == pytest.approx(one.class_logits, abs=1e-4)
    bins, expected = (b.reshape(2, 4, 4, 5).softmax(dim=2) for b in (merged.boxes, one.boxes))
    assert bins == pytest.approx(expected, abs=1e-5)


def test_extreme_logits_stay_finite():
    far = [BranchOutputs(torch.full((1, 3, 1), value), torch.full((1, 16, 1), value)) for value in (-80.0, 90.0)]
    merged = merge_heads(far, shares_of(1.0, 1.0))
    assert merged.class_logits.isfinite().all()
    assert merged.boxes.isfinite().all()
    assert merged.class_logits.sigmoid() == pytest.approx(torch.full((1, 3, 1), 0.5))


def test_a_class_is_answered_by_its_own_teacher():
    """The specialist alone answers for 'spur', and where it sees one it alone places the box."""
    general, special = heads(2)
    general.class_logits[:, 2] = 9.0  # whatever it says of spurs
    general.class_logits[:, :2] = -9.0
    special.class_logits[:, 2] = 5.0
    shares = class_shares([EnsembleMember("a", CLASSES, 1.0), EnsembleMember("b", ("spur",), 0.1, ("spur",))], CLASSES)
    assert shares.tolist() == [[1, 1, 0], [0, 0, 1]]
    merged = merge_heads([general, special], shares)
    assert merged.class_logits[:, 2] == pytest.approx(special.class_logits[:, 2], abs=1e-4)
    assert merged.class_logits[:, :2] == pytest.approx(general.class_logits[:, :2], abs=1e-4)
    bins, expected = (b.reshape(2, 4, 4, 5).softmax(dim=2) for b in (merged.boxes, special.boxes))
    assert bins == pytest.approx(expected, abs=1e-3)


def test_two_specialists_of_one_class_share_it():
    shares = class_shares(
        [
            EnsembleMember("a", CLASSES, 1.0),
            EnsembleMember("b", CLASSES, 3.0, ("spur",)),
            EnsembleMember("c", CLASSES, 1.0, ("spur", "open")),
        ],
        CLASSES,
    )
    assert shares.tolist() == [[0, 1, 0], [0, 0, 0.75], [1, 0, 0.25]]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [EnsembleMember("a", CLASSES, 1.0), EnsembleMember("b", CLASSES, 1.0, ("hole",))],
            r"classes names \['hole'\], which the data",
        ),
        (
            [EnsembleMember("a", CLASSES, 1.0), EnsembleMember("b", ("open",), 1.0)],
            "b: is to answer for 'short', but knows only",
        ),
        (
            [EnsembleMember("a", CLASSES, 1.0), EnsembleMember("b", ("open",), 1.0, ("spur",))],
            "b: is to answer for 'spur', but knows",
        ),
        ([EnsembleMember("a", CLASSES, 1.0, ("open",))], r"no teacher answers for \['short', 'spur'\]"),
    ],
)
def test_shares_that_cannot_be_are_refused(members, message):
    with pytest.raises(ValueError, match=message):
        class_shares(members, CLASSES)


def test_logits_are_put_in_the_order_of_the_data():
    logits = torch.randn(2, 2, 5)
    ordered = in_order(logits, ("spur", "open"), CLASSES)
    assert torch.equal(ordered[:, 0], logits[:, 1])
    assert torch.equal(ordered[:, 2], logits[:, 0])
    assert (ordered[:, 1].sigmoid() < 1e-12).all()
