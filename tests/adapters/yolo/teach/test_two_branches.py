"""Heads with a one-to-one branch beside the other: which branch learns from whom, as the weight of one decays."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from family_fixture import EPOCHS, HARD, SOFT, Pair, same, terms_of, training_of, write_families
from training_fixture import decided_model, params_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_families(tmp_path_factory.mktemp("families") / "project")


def in_training(project, folder, teacher, student):
    """A live model with its distiller before the first step, and a batch."""
    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    params, detector = params_of(project), decided_model(seed=9, architecture=teacher)
    source = frozen(params, detector)
    pair = Pair(teacher, student, cached=False)
    trainer = RetortTrainer(training_of(project, params, detector, pair, folder, live=source.answer))
    trainer.setup_model()
    trainer.model.args = trainer.args
    batch = {
        "img": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.6, 0.3, 0.2]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
    }
    return trainer.model.train().requires_grad_(), trainer.spec.distillation, batch


@pytest.mark.parametrize("student", ["yolov10n.yaml", "yolo26n.yaml"])
@pytest.mark.parametrize("teacher", ["yolov10n.yaml", "yolo26n.yaml", "yolo11n.yaml"])
def test_the_final_branch_learns_from_a_teacher_that_has_one(project, tmp_path, teacher, student):
    live, distillation, batch = in_training(project, tmp_path, teacher, student)
    terms = terms_of(live, batch["img"], distillation.live(batch["img"]))
    head = live.model[-1]
    for name, term in terms.items():
        for branch, of in (("one2one_cv2", "kd_box"), ("one2one_cv3", "kd_class")):
            weights = list(getattr(head, branch).parameters())
            gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            if name == of and teacher != "yolo11n.yaml":
                assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients), name
            else:
                assert all(gradient is None for gradient in gradients), (name, branch)


@pytest.mark.parametrize("architecture", ["yolov10n.yaml", "yolo26n.yaml"])
def test_the_teachers_terms_stay_as_the_label_loss_of_the_many_branch_decays(project, tmp_path, architecture):
    live, distillation, batch = in_training(project, tmp_path, architecture, architecture)
    stem = live.model[0].conv.weight

    def gradient(weights):
        live.distiller.start_epoch(replace(distillation, weights_at=partial(same, weights=weights)), 0)
        return torch.autograd.grad(live.loss(batch)[0].sum(), stem)[0]

    live.criterion = live.init_criterion()
    share, soft, hard = live.criterion.o2m, gradient(SOFT), gradient(HARD)
    for _ in range(EPOCHS):
        live.criterion.update()
    assert live.criterion.o2m < 0.2 * share
    assert soft.abs().max() > 0
    assert torch.allclose(gradient(SOFT), soft, rtol=1e-4, atol=1e-4 * soft.abs().max())
    assert gradient(HARD).norm() < 0.2 * hard.norm()
