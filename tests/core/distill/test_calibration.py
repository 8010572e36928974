"""Calibration of the terms, against autograd on a small network."""

import pytest
import torch
from torch import nn

from kd_steps.core.distill.calibration import TermCalibration, gradient_norm

NAMES = ("near", "far", "blind")
SHARES = {"near": 0.25, "far": 0.5, "blind": 0.25}


class Toy(nn.Module):
    """Two neck levels from one trunk, and losses of very different force on them."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk, self.levels = nn.Linear(4, 6), nn.ModuleList([nn.Linear(6, 5), nn.Linear(6, 3)])

    def forward(self, inputs):
        hidden = self.trunk(inputs).tanh()
        features = [level(hidden) for level in self.levels]
        label = features[0].square().sum() + features[1].exp().mean()
        terms = {
            "near": 1000 * (features[0] - 1).square().mean() + features[1].abs().sum(),
            "far": 1e-6 * features[1].sin().sum(),
            "blind": hidden.square().sum(),  # beside the neck
        }
        return features, label, terms


def oracle(loss, features):
    """Norm of the gradient over all levels, one level after the other."""
    total = 0.0
    for level in features:
        gradient = torch.autograd.grad(loss, level, retain_graph=True, allow_unused=True)[0]
        total += 0.0 if gradient is None else float(gradient.double().square().sum())
    return total**0.5


def inputs(seed):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))


def test_gradient_norm_equals_autograds():
    features, label, terms = Toy(1)(inputs(1))
    for loss in (label, *terms.values()):
        assert gradient_norm(loss, features).item() == pytest.approx(oracle(loss, features), rel=1e-5)
    assert gradient_norm(terms["blind"], features).item() == 0
    assert gradient_norm(torch.tensor(3.0), features).item() == 0
    label.backward()  # the graph is still there


def test_gradients_too_small_for_half_precision_count():
    features = [torch.full((1000,), 2.0, dtype=torch.float16, requires_grad=True)]
    loss = (features[0].float() * 1e-7).sum()  # below the least half-precision number with full precision
    assert gradient_norm(loss, features).item() == pytest.approx(1e-7 * 1000**0.5, rel=1e-3)


def test_every_term_pulls_with_its_share_of_the_label_loss():
    network, calibration = Toy(2), TermCalibration(NAMES, 3, SHARES.values())
    norms = []
    for batch in range(3):
        assert calibration.measuring
        features, label, terms = network(inputs(batch))
        calibration.measure(label, terms, features)
        norms.append([oracle(loss, features) for loss in (label, *(terms[name] for name in NAMES))])
    assert not calibration.measuring
    means = torch.tensor(norms).mean(dim=0).tolist()
    found = calibration.multipliers()
    assert found["near"] == pytest.approx(SHARES["near"] * means[0] / means[1], rel=1e-4)
    assert found["far"] == pytest.approx(SHARES["far"] * means[0] / means[2], rel=1e-4)
    assert found["blind"] == 1.0, "a term without a gradient at the neck is left as it is"


def test_after_one_batch_the_norms_are_equal_to_the_share_exactly():
    network, calibration = Toy(3), TermCalibration(NAMES, 5, SHARES.values())
    features, label, terms = network(inputs(1))
    calibration.measure(label, terms, features)
    pull = oracle(label, features)
    for name, factor in calibration.multipliers().items():
        if name != "blind":
            assert oracle(factor * terms[name], features) == pytest.approx(SHARES[name] * pull, rel=1e-4)


def test_without_measuring_everything_stays_as_it_is():
    calibration = TermCalibration(NAMES, 0, SHARES.values())
    assert not calibration.measuring
    assert calibration.multipliers() == dict.fromkeys(NAMES, 1.0)


def test_a_label_loss_without_a_gradient_calibrates_nothing():
    features, _, terms = Toy(4)(inputs(1))
    calibration = TermCalibration(NAMES, 2, SHARES.values())
    calibration.measure(torch.zeros(()), terms, features)
    assert calibration.multipliers() == dict.fromkeys(NAMES, 1.0)


def test_a_resumed_training_goes_on_with_what_was_measured():
    network = Toy(5)
    whole, first, second = (TermCalibration(NAMES, 4, SHARES.values()) for _ in range(3))
    for batch in range(4):
        features, label, terms = network(inputs(batch))
        whole.measure(label, terms, features)
        if batch == 2:
            second.load_state_dict(first.state_dict())
        (first if batch < 2 else second).measure(label, terms, features)
    assert second.multipliers() == whole.multipliers()
    assert not second.measuring
    assert first.measuring


def test_its_numbers_are_not_trained():
    assert list(TermCalibration(NAMES, 4, SHARES.values()).parameters()) == []
    assert set(TermCalibration(NAMES, 4, SHARES.values()).state_dict()) == {"seen", "label_norm", "term_norms"}
