"""What a training starts from: weights whose class rows go with their names, and what a person calls them."""

import pytest
import torch
from training_fixture import decided_model, params_of

from kd_steps.adapters.files import sha256_of

pytestmark = pytest.mark.slow


@pytest.fixture
def section(training_project):
    return params_of(training_project).train_teacher


def test_weights_of_other_classes_keep_all_but_their_class_layers(section, tmp_path):
    from kd_steps.adapters.yolo.initial import initial_model
    from kd_steps.adapters.yolo.models import save_weights

    source, path = decided_model(3), tmp_path / "mine.pt"
    save_weights(source, path)
    pinned = section.model_copy(update={"weights_sha256": sha256_of(path)})
    found = initial_model(pinned, path, ["x", "y", "z"], 0)
    assert found.names == {0: "x", 1: "y", 2: "z"}
    assert found.model[-1].nc == 3
    old, new = source.half().float().state_dict(), found.state_dict()
    same = [name for name in new if new[name].shape == old[name].shape and torch.allclose(new[name], old[name])]
    others = {name for name in new if name not in same and new[name].shape != old[name].shape}
    assert len(same) > 0.9 * len(new)
    assert others
    assert all(".cv3." in name for name in others)


def logits_of(model, seed=0):
    with torch.no_grad():
        outputs = model.eval()(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed)))[1]
    return outputs["scores"]


def started_from(section, source, classes, folder, seed=0):
    """What a training of ``classes`` starts from, given a weight file of ``source``."""
    from kd_steps.adapters.yolo.initial import initial_model
    from kd_steps.adapters.yolo.models import save_weights

    path = folder / "mine.pt"
    save_weights(source, path)
    return initial_model(section.model_copy(update={"weights_sha256": sha256_of(path)}), path, classes, seed)


def test_class_rows_go_with_their_names(section, tmp_path):
    source = decided_model(3, ("a", "b", "c"))
    found = started_from(section, source, ("c", "a", "new"), tmp_path)
    was, now = logits_of(source), logits_of(found)
    assert found.names == {0: "c", 1: "a", 2: "new"}
    assert torch.allclose(now[:, 0], was[:, 2], atol=0.02)  # the file holds half precision
    assert torch.allclose(now[:, 1], was[:, 0], atol=0.02)
    assert not torch.allclose(now[:, 2], was[:, 1], atol=0.5)


def test_rows_of_classes_nobody_knows_start_afresh_by_the_seed(section, tmp_path):
    source = decided_model(3, ("a", "b"))
    torch.manual_seed(5)
    first = logits_of(started_from(section, source, ("x", "y"), tmp_path, seed=1))
    torch.manual_seed(6)  # what was drawn before does not count
    again = logits_of(started_from(section, source, ("x", "y"), tmp_path, seed=1))
    other = logits_of(started_from(section, source, ("x", "y"), tmp_path, seed=2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.allclose(first, logits_of(source), atol=0.5)
