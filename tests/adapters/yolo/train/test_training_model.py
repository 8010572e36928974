"""A detector in training: what pictures without labels count for, and what stays out of validation."""

import pytest
import torch
from answer_content import content
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from training_fixture import decided_model

from kd_steps.adapters.yolo.train.soft_loss import LABEL_LOSS
from kd_steps.core.distill.schedule import EpochWeights
from kd_steps.core.distill.terms import TermWeights

pytestmark = pytest.mark.slow

PICTURES = 5
LABELS_ALONE = EpochWeights("x", soft=0.0, hard=1.0, temperature=2.0)


def model_in_training(architecture=None, weights=LABELS_ALONE):
    """A small detector in training beside a live teacher.

    Its batch norms use their running statistics, so that a picture's outputs do not depend on the rest of its batch.
    """
    from ultralytics.cfg import get_cfg

    from kd_steps.adapters.yolo.precision import Precision
    from kd_steps.adapters.yolo.teach.distiller import Distillation, Distiller
    from kd_steps.adapters.yolo.teach.teacher import FrozenTeacher
    from kd_steps.adapters.yolo.train.training_model import TrainingModel

    model, precision = decided_model(5, architecture=architecture), Precision("fp32", channels_last=False)
    teacher = FrozenTeacher(decided_model(9), torch.device("cpu"), precision, content())
    model.__class__ = TrainingModel
    model.args, model.criterion, model.precision = get_cfg(), None, precision
    distillation = Distillation(TermWeights(class_weight=1.0), lambda _: weights, live=teacher.answer)
    model.soft_loss = Distiller(distillation, model)
    model.soft_loss.start_epoch(0, model, precision)
    model.train().requires_grad_()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


@pytest.fixture(scope="module", params=[None, "yolo26n.yaml"], ids=["one branch", "two branches"])
def model(request):
    return model_in_training(request.param)


def images(seed=0):
    return torch.rand(PICTURES, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def objects_of(picture):
    """Class and box of the objects of a picture: one more a picture, from none."""
    places = torch.linspace(0.2, 0.8, 4)[:picture]
    boxes = [[x, 0.3 + 0.1 * picture, 0.2 + 0.02 * picture, 0.3] for x in places.tolist()]
    return [(float((picture + number) % 2), box) for number, box in enumerate(boxes)]


def batch_of(pictures, labelled=None, pixels=None, junk=False):
    """Ultralytics' batch of some pictures; those that are not labelled have objects only as ``junk``."""
    found = [
        (place, class_id, box)
        for place, picture in enumerate(pictures)
        if junk or labelled is None or labelled[place]
        for class_id, box in objects_of(picture)
    ]
    batch = {
        "img": (images() if pixels is None else pixels)[pictures],
        "batch_idx": torch.tensor([float(place) for place, _, _ in found]),
        "cls": torch.tensor([[class_id] for _, class_id, _ in found]).reshape(-1, 1),
        "bboxes": torch.tensor([box for *_, box in found]).reshape(-1, 4),
    }
    return batch if labelled is None else {**batch, "labelled": torch.tensor(labelled)}


def trained_by(model, batch):
    """Loss, its items, and the gradient of every weight."""
    model.zero_grad()
    total, items = model.loss(batch)
    total.sum().backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return total.sum().item(), {name: item.item() for name, item in items.items()}, gradients


@settings(deadline=None, max_examples=8)
@given(
    labelled=st.lists(st.booleans(), min_size=PICTURES, max_size=PICTURES).filter(any),
    order=st.permutations(range(PICTURES)),
    junk=st.booleans(),
)
def test_the_label_loss_is_that_of_the_labelled_pictures_alone(model, labelled, order, junk):
    mixed = trained_by(model, batch_of(order, labelled, junk=junk))
    alone = trained_by(model, batch_of([picture for picture, known in zip(order, labelled, strict=True) if known]))
    assert mixed[0] == pytest.approx(alone[0], rel=1e-4)
    names = [name for name in alone[1] if name.endswith("_loss") and name != LABEL_LOSS]
    assert {n: mixed[1][n] for n in names} == pytest.approx({n: alone[1][n] for n in names}, rel=1e-4, abs=1e-7)
    assert mixed[1][LABEL_LOSS] * PICTURES == pytest.approx(mixed[0], rel=1e-4)
    size = max(gradient.norm() for gradient in alone[2].values())
    assert all((gradient - alone[2][name]).norm() < 1e-4 * size for name, gradient in mixed[2].items())
    assert alone[0] > 0


def test_what_an_unlabelled_picture_shows_does_not_matter(model):
    labelled = [True, False, True, False, False]
    pixels = images().requires_grad_()
    total, _ = model.loss(batch_of(range(PICTURES), labelled, pixels))
    total.sum().backward()
    assert pixels.grad[[1, 3, 4]].abs().max() == 0
    assert all(pixels.grad[place].abs().sum() > 0 for place in (0, 2))


def test_a_batch_without_any_labelled_picture_has_a_label_loss_of_zero_with_a_graph(model):
    batch = batch_of(range(PICTURES), [False] * PICTURES)
    total, items, gradients = trained_by(model, batch)
    assert total == 0
    label_items = {name: item for name, item in items.items() if name != "kd_class"}
    assert label_items == dict.fromkeys(label_items, 0.0)
    assert LABEL_LOSS in label_items
    assert len(label_items) == 4
    assert items["kd_class"] > 0
    assert gradients, "every process of a distributed training takes the same path through its graph"
    assert all(gradient.abs().max() == 0 for gradient in gradients.values())


def test_the_teacher_is_heard_on_unlabelled_pictures():
    model = model_in_training(weights=EpochWeights("x", soft=1.0, hard=1.0, temperature=2.0))
    pixels = images().requires_grad_()
    total, items = model.loss(batch_of(range(PICTURES), [False] * PICTURES, pixels))
    total.sum().backward()
    assert total.sum().item() == pytest.approx(PICTURES * items["kd_class"].item(), rel=1e-5)
    assert (pixels.grad.abs().flatten(1).sum(dim=1) > 0).all()


def test_a_fully_labelled_batch_says_so_or_not():
    model = model_in_training()
    with_note = trained_by(model, batch_of(range(PICTURES), [True] * PICTURES))
    without = trained_by(model, batch_of(range(PICTURES)))
    assert with_note[:2] == without[:2]


def test_validation_has_the_label_loss_alone():
    model = model_in_training(weights=EpochWeights("x", soft=1.0, hard=0.5, temperature=2.0))
    batch = batch_of(range(PICTURES))
    expected = trained_by(model_in_training(), batch)
    model.eval()
    with torch.no_grad():
        total, items = model.loss(batch, model(batch["img"]))
    assert set(items) == {"box_loss", "cls_loss", "dfl_loss"}
    assert total.sum().item() == pytest.approx(expected[0], rel=1e-4)
