"""How a head's answers are read."""

import torch

from kd_steps.core.detect.outputs import decode_sides, top_score


def test_one_bin_is_the_distance_and_many_are_a_distribution():
    distances = torch.tensor([[0.5, 1.0, 2.0, 3.25]])
    assert torch.equal(decode_sides(distances[..., None]), distances)
    sure = torch.full((1, 4, 16), -50.0)
    sure[:, :, 7] = 50.0
    assert torch.allclose(decode_sides(sure), torch.full((1, 4), 7.0))
    assert torch.allclose(decode_sides(torch.zeros(2, 4, 16)), torch.full((2, 4), 7.5)), "even: the middle"


def test_the_highest_score_of_each_anchor():
    logits = torch.tensor([[0.0, -3.0], [-8.0, 2.0]])
    assert torch.allclose(top_score(logits), torch.tensor([0.5, 0.880797]))
    assert top_score(torch.zeros(0, 2)).shape == (0,)
    assert torch.equal(top_score(torch.zeros(3, 0)), torch.zeros(3)), "without classes nothing is seen"
