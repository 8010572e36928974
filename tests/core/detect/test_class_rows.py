"""More rows for new classes, and how few-shot epochs are drawn."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_steps.core.detect.class_rows import extend_class_rows, replay_draws


def test_old_rows_keep_their_bits_and_new_ones_start_at_the_prior():
    conv = torch.nn.Conv2d(5, 3, 1)
    weight, bias = extend_class_rows(conv.weight.data, conv.bias.data, 2, 0.01)
    assert torch.equal(weight[:3], conv.weight.data)
    assert torch.equal(bias[:3], conv.bias.data)
    assert weight.shape == (5, 5, 1, 1)
    scores = torch.nn.functional.conv2d(torch.randn(1, 5, 4, 4), weight, bias)[:, 3:].sigmoid()
    assert torch.allclose(scores, torch.tensor(0.01), atol=1e-6)


@pytest.mark.parametrize(("count", "prior", "message"), [(0, 0.1, "new_classes"), (1, 0.0, "prior"), (1, 1.0, "prior")])
def test_bad_arguments_are_refused(count, prior, message):
    with pytest.raises(ValueError, match=message):
        extend_class_rows(torch.zeros(1, 1, 1, 1), torch.zeros(1), count, prior)


@settings(deadline=None)
@given(
    base=st.integers(1, 40),
    new=st.integers(1, 12),
    draws=st.integers(1, 90),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_draws(base, new, draws, share, seed):
    drawn = replay_draws(base, new, draws, share, torch.Generator().manual_seed(seed))
    again = replay_draws(base, new, draws, share, torch.Generator().manual_seed(seed))
    assert drawn.shape == (draws,)
    assert torch.equal(drawn, again)
    counts = Counter(drawn.tolist())
    old = [counts[i] for i in range(base)]
    fresh = [counts[i] for i in range(base, base + new)]
    assert sum(old) + sum(fresh) == draws
    assert sum(fresh) == min(draws, max(1, round(draws * share)))
    assert max(old) - min(old) <= 1, "no base picture comes again before all have come"
    assert max(fresh) - min(fresh) <= 1


def test_new_and_base_pictures_come_mixed():
    is_new = replay_draws(100, 10, 60, 0.5, torch.Generator().manual_seed(0)) >= 100
    assert all(3 < part.sum() < 17 for part in is_new.split(20))
