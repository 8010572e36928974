"""Training through Ultralytics' trainer: the teacher's terms, resume, and what is left behind."""

import math
import shutil
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from page_faults import PAGES, needs_glibc, pages_of_a_step
from pickle_modules import modules_in
from trainer_fixture import rows_of
from training_fixture import CLASSES, decided_model, params_of, tree_digest

from kd_steps.adapters.data.reader import load_prepared
from kd_steps.core.distill.schedule import EpochWeights, Phase, weights_at
from kd_steps.core.distill.terms import TermWeights

pytestmark = pytest.mark.slow

ONE_PHASE = {"all": Phase(1.0, 0.5, 0.5, 2.0)}


def small_run(project, folder, **changes):
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan, training_run

    params = params_of(project)
    prepared = load_prepared(project / "data/prepared")
    run = training_run(
        params,
        params.train_teacher,
        decided_model(5),
        CLASSES,
        prepared.split("train"),
        prepared.split("val"),
        fresh_views_plan(params.train_teacher),
        "a" * 64,
        folder,
    )
    return replace(run, **changes)


def live_teacher(params):
    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.adapters.yolo.teach.distiller import Distillation

    weights = partial(weights_at, epochs=2, phases=ONE_PHASE, gamma_epochs=0)
    return Distillation(
        terms=TermWeights(class_weight=1.0, box_weight=1.0, attention_weight=1.0),
        weights_at=weights,
        live=frozen(params, decided_model(9)).answer,
    )


@pytest.fixture(scope="module")
def distilled(training_project, tmp_path_factory):
    """A finished training with a live teacher: the run, its weights, what was measured, the project's tree before."""
    from kd_steps.adapters.yolo.train.training import finish, train

    before = tree_digest(training_project)
    folder = tmp_path_factory.mktemp("distilled")
    run = small_run(training_project, folder, soft_loss=live_teacher(params_of(training_project)))
    model = train(run)
    shutil.copytree(folder, folder.with_name("unfinished"))
    measured = finish(run, model, folder / "weights.pt")
    return run, model, measured, before


def test_the_teachers_terms_are_logged_by_name(distilled):
    run, _, measured, _ = distilled
    rows = rows_of(run.folder / "results.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        for name in ("train/kd_class", "train/kd_box", "train/box_loss", "train/cls_loss", "train/dfl_loss"):
            assert float(row[name]) > 0
            assert math.isfinite(float(row[name]))
        assert not [name for name in row if name.startswith(("val/kd_", "val/label"))], (
            "no teacher answers in validation"
        )
        assert float(row["val/cls_loss"]) > 0
    assert measured["epochs"] == 2
    assert measured["precision"] == "fp32"
    assert measured["val_map50_95"] == float(rows[-1]["metrics/mAP50-95(B)"])


def test_weights_change_and_are_a_plain_detector(distilled):
    from ultralytics.nn.tasks import DetectionModel

    run, model, _, _ = distilled
    assert type(model) is DetectionModel
    assert model.names == {0: "bridge", 1: "missing"}
    start = run.model.state_dict()
    moved = [name for name, value in model.state_dict().items() if not torch.allclose(value, start[name], atol=2e-3)]
    assert moved
    assert run.model.training is False, "the caller's model is not trained"


def test_nothing_of_ours_is_in_the_saved_weights(distilled):
    run, _, _, _ = distilled
    assert not {name for name in modules_in(run.folder / "weights.pt") if "kd_steps" in name}


def test_result_and_checkpoints_lie_in_the_folder_and_the_data_set_is_as_it_was(distilled, training_project):
    run, _, _, before = distilled
    assert sorted(path.name for path in run.folder.iterdir()) == ["results.csv", "resume", "run", "weights.pt"]
    assert tree_digest(training_project) == before


def test_a_training_killed_after_its_last_epoch_only_hands_its_weights_over(distilled):
    from kd_steps.adapters.yolo.train.training import finish, train

    run, model, _, _ = distilled
    unfinished = run.folder.with_name("unfinished")
    again = train(replace(run, folder=unfinished))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    measured = finish(run=replace(run, folder=unfinished), model=again, weights=unfinished / "weights.pt")
    assert measured["epochs"] == 2


def test_same_seed_same_weights(training_project, distilled, tmp_path):
    from kd_steps.adapters.yolo.train.training import train

    run, model, _, _ = distilled
    torch.rand(7)
    again = train(replace(run, folder=tmp_path, soft_loss=live_teacher(params_of(training_project))))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


@needs_glibc
def test_a_training_on_a_cpu_keeps_the_memory_that_its_steps_free(training_project, tmp_path):
    from kd_steps.adapters.yolo.runtime import keep_freed_memory
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    assert keep_freed_memory(0)
    RetortTrainer(small_run(training_project, tmp_path))
    assert pages_of_a_step() < PAGES // 20


def training_model(project, distillation, weights):
    from kd_steps.adapters.yolo.precision import Precision
    from kd_steps.adapters.yolo.teach.distiller import Distiller
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer
    from kd_steps.adapters.yolo.train.training_model import TrainingModel

    trainer = RetortTrainer(small_run(project, project.with_name("gradients")))
    model = decided_model(5)
    model.__class__ = TrainingModel
    model.args, model.criterion = trainer.args, None
    model.precision, model.soft_loss = Precision("fp32", False), None
    if weights is not None:
        model.soft_loss = Distiller(replace(distillation, weights_at=lambda _: weights), model)
        model.soft_loss.start_epoch(0, model, model.precision)
    return model.train().requires_grad_()


def batch_of(images=2):
    generator = torch.Generator().manual_seed(0)
    return {
        "img": torch.rand(images, 3, 64, 64, generator=generator),
        "cls": torch.tensor([[0.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]]),
        "batch_idx": torch.tensor([0.0]),
    }


def gradient_of_first_layer(model):
    total, items = model.loss(batch_of())
    model.zero_grad()
    total.sum().backward()
    return model.model[0].conv.weight.grad.clone(), total, items


def test_the_teachers_terms_reach_the_backbone_and_add_up(training_project):
    distillation = live_teacher(params_of(training_project))
    found = {}
    for name, weights in {
        "soft": EpochWeights("x", 1.0, 0.0, 2.0),
        "hard": EpochWeights("x", 0.0, 1.0, 2.0),
        "both": EpochWeights("x", 0.5, 2.0, 2.0),
        "plain": None,
    }.items():
        found[name] = gradient_of_first_layer(training_model(training_project, distillation, weights))
    assert found["soft"][0].abs().sum() > 0
    soft, hard, both, plain = (found[name][0] for name in ("soft", "hard", "both", "plain"))
    assert (hard - plain).norm() < 1e-3 * plain.norm()
    assert (both - (0.5 * soft + 2 * hard)).norm() < 1e-3 * soft.norm(), "to a thousandth of the teacher's own part"
    terms = [found["soft"][2][name].item() for name in distillation.terms.names()]
    assert min(terms) > 0
    assert found["soft"][1].item() == pytest.approx(2 * sum(terms), rel=1e-5)
    assert "kd_class" not in found["plain"][2]


def test_a_student_that_is_the_teacher_gets_no_gradient_from_it(training_project):
    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.adapters.yolo.teach.distiller import Distillation

    same = frozen(params_of(training_project), decided_model(5))
    distillation = Distillation(
        TermWeights(class_weight=1.0, box_weight=1.0, attention_weight=1.0), lambda _: None, live=same.answer
    )
    model = training_model(training_project, distillation, EpochWeights("x", 1.0, 0.0, 2.0))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # the teacher's statistics, as it has them
    gradient, total, _ = gradient_of_first_layer(model)
    other = training_model(training_project, live_teacher(params_of(training_project)), model.soft_loss.weights)
    assert total.sum().item() < 1e-3
    assert gradient.norm() < 1e-2 * gradient_of_first_layer(other)[0].norm()


def test_bf16_gives_fp32_losses(training_project):
    from kd_steps.adapters.yolo.precision import Precision

    model = training_model(
        training_project, live_teacher(params_of(training_project)), EpochWeights("x", 1.0, 1.0, 2.0)
    )
    _, plain, _ = gradient_of_first_layer(model)
    model.precision = Precision("bf16", channels_last=True)
    _, half, items = gradient_of_first_layer(model)
    assert half.dtype == torch.float32
    assert {item.dtype for item in items.values()} == {torch.float32}
    assert half.sum().item() == pytest.approx(plain.sum().item(), rel=0.1)
    assert half.sum().item() != plain.sum().item()


def test_seconds_and_epochs_count_once_over_a_kill(tmp_path):
    """Three epochs of 10 s; killed in the third after its row was written, and gone on with at 20 s."""
    from kd_steps.adapters.yolo.train.training import finish

    table = tmp_path / "run/results.csv"
    table.parent.mkdir()
    (tmp_path / "resume").mkdir()
    rows = ["1,10,0.1,0.05", "2,20,0.2,0.1", "3,30,0.3,0.2", "3,32,0.4,0.35", "4,42,0.5,0.3"]
    table.write_text("epoch,time,metrics/mAP50(B),metrics/mAP50-95(B)\n" + "\n".join(rows) + "\n")
    run = SimpleNamespace(
        folder=tmp_path,
        new_parts=None,
        train=[0] * 42,
        device="cpu",
        precision=SimpleNamespace(name="fp32"),
        processes=1,
        keep="last",
    )
    measured = finish(run, decided_model(), tmp_path / "weights.pt")
    assert measured["epochs"] == 4
    assert measured["seconds"] == 42.0
    assert measured["pictures_per_second"] == 4.0
    assert (measured["val_map50"], measured["val_map50_95"]) == (0.5, 0.3)
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 5


def test_the_scores_are_those_of_the_weights_that_are_kept(tmp_path):
    from kd_steps.adapters.yolo.train.training import finish

    for keep, expected in (("best", (0.4, 0.3)), ("last", (0.5, 0.2))):
        (tmp_path / keep / "run").mkdir(parents=True)
        (tmp_path / keep / "resume").mkdir()
        rows = ["1,10,0.3,0.3", "2,20,0.4,0.3", "3,30,nan,nan", "4,40,0.5,0.2"]  # the best checkpoint is of the second
        (tmp_path / keep / "run/results.csv").write_text(
            "epoch,time,metrics/mAP50(B),metrics/mAP50-95(B)\n" + "\n".join(rows) + "\n"
        )
        run = SimpleNamespace(
            folder=tmp_path / keep,
            new_parts=None,
            train=[0],
            device="cpu",
            precision=SimpleNamespace(name="fp32"),
            processes=1,
            keep=keep,
        )
        measured = finish(run, decided_model(), tmp_path / "weights.pt")
        assert (measured["val_map50"], measured["val_map50_95"]) == expected
