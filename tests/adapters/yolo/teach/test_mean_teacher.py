"""The student's own average as teacher: it answers as a frozen copy of it would, and with its newest weights."""

import pytest
import torch
from answer_content import content
from training_fixture import decided_model

pytestmark = pytest.mark.slow


def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def teachers(model):
    """The model as mean teacher, and frozen."""
    from kd_steps.adapters.yolo.precision import Precision
    from kd_steps.adapters.yolo.teach.mean_teacher import MeanTeacher
    from kd_steps.adapters.yolo.teach.teacher import FrozenTeacher

    precision, asked = Precision("fp32", channels_last=False), content(attention=True)
    return MeanTeacher(model, precision, asked), FrozenTeacher(model, torch.device("cpu"), precision, asked)


@pytest.mark.parametrize("architecture", [None, "yolo26n.yaml"])
def test_it_answers_as_a_frozen_copy_and_is_left_as_it_is(architecture):
    model = decided_model(architecture=architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mean, frozen = teachers(model)
    mine, theirs = mean.answer(images()), frozen.answer(images())
    assert mine.one_to_many.anchor.tolist() == theirs.one_to_many.anchor.tolist()
    assert mine.one_to_many.class_logits == pytest.approx(theirs.one_to_many.class_logits, abs=1e-3)
    assert mine.neck.attention == pytest.approx(theirs.neck.attention, abs=1e-4)
    assert (mine.one_to_one is None) == (architecture is None)
    assert not mine.one_to_many.class_logits.requires_grad
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_it_answers_with_the_newest_weights():
    model = decided_model()
    mean, frozen = teachers(model)
    with torch.no_grad():
        for branch in model.model[-1].cv3:
            branch[-1].bias += 1
    said, old = mean.answer(images()), frozen.answer(images())
    assert said.one_to_many.class_logits == pytest.approx(old.one_to_many.class_logits + 1, abs=1e-3)
