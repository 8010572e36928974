"""What is trained and measured beside a student: its adapters, the calibration, and what is left of them."""

from dataclasses import replace

import pytest
import torch
from answer_content import content
from pickle_modules import modules_in
from trainer_fixture import training_of
from training_fixture import CLASSES, decided_model

from kd_steps.adapters.yolo.train.soft_loss import LABEL_LOSS
from kd_steps.core.distill.schedule import EpochWeights
from kd_steps.core.distill.terms import TermWeights

pytestmark = pytest.mark.slow

BOTH = EpochWeights("all", soft=1.0, hard=1.0, temperature=2.0)
EVERY_TERM = TermWeights(
    class_weight=1.0,
    box_weight=1.0,
    attention_weight=1.0,
    channel_weight=1.0,
    feature_weight=1.0,
    relational_weight=1.0,
)
SHARES = {name: 0.2 + 0.1 * number for number, name in enumerate(EVERY_TERM.names())}


def always(_):
    return BOTH


def teacher_of(terms=EVERY_TERM, weights_at=always, **settings):
    """A live teacher that says all that the terms need."""
    from kd_steps.adapters.yolo.models import neck_channels
    from kd_steps.adapters.yolo.precision import Precision
    from kd_steps.adapters.yolo.teach.distiller import Distillation
    from kd_steps.adapters.yolo.teach.teacher import FrozenTeacher

    model, asked = decided_model(9), content(attention=True, pooled=True, max_vectors=84)
    live = FrozenTeacher(model, torch.device("cpu"), Precision("fp32", channels_last=False), asked).answer
    return Distillation(terms, weights_at, live=live, teacher_channels=neck_channels(model), **settings)


def student_of(distillation, precision="fp32", seed=5):
    from ultralytics.cfg import get_cfg

    from kd_steps.adapters.yolo.precision import Precision
    from kd_steps.adapters.yolo.teach.distiller import Distiller
    from kd_steps.adapters.yolo.train.training_model import TrainingModel

    model = decided_model(seed)
    model.__class__ = TrainingModel
    model.args, model.criterion, model.precision = get_cfg(), None, Precision(precision, channels_last=False)
    torch.manual_seed(seed)
    model.soft_loss = Distiller(distillation, model)
    model.soft_loss.start_epoch(0, model, model.precision)
    return model.train().requires_grad_()


def batch_of(seed=0, images=3):
    return {
        "img": torch.rand(images, 3, 64, 64, generator=torch.Generator().manual_seed(seed)),
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.6, 0.3, 0.2]]),
        "batch_idx": torch.tensor([0.0, 2.0]),
    }


def test_the_loss_is_the_labels_and_the_terms_as_the_schedule_weighs_them():
    weights, batch = EpochWeights("x", soft=0.7, hard=1.3, temperature=2.0), batch_of()
    model = student_of(teacher_of(weights_at=lambda _: weights))
    labels_alone = student_of(teacher_of(weights_at=lambda _: replace(weights, soft=0.0, hard=1.0)))
    total, items = model.loss(batch)
    expected = 1.3 * labels_alone.loss(batch)[0].item() + 0.7 * 3 * sum(items[n] for n in EVERY_TERM.names()).item()
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert list(items)[3:] == [LABEL_LOSS, *EVERY_TERM.names()]
    assert not any(item.requires_grad for item in items.values())


def test_the_schedule_is_asked_once_an_epoch():
    asked = []
    model = student_of(teacher_of(weights_at=lambda epoch: asked.append(epoch) or replace(BOTH, soft=float(epoch))))
    model.soft_loss.start_epoch(4, model, model.precision)
    model.loss(batch_of())
    assert asked == [0, 4]
    assert model.soft_loss.weights.soft == 4.0


def test_answers_that_come_with_the_batch_count_as_live_ones_do():
    live = teacher_of()
    cached, batch = replace(live, live=None), batch_of()
    expected = student_of(live).loss(batch)[1]
    found = student_of(cached).loss({**batch, "teacher": live.live(batch["img"])})[1]
    assert {name: item.item() for name, item in found.items()} == pytest.approx(
        {name: item.item() for name, item in expected.items()}
    )


@pytest.mark.parametrize(
    ("terms", "adapters"),
    [
        (TermWeights(class_weight=1.0, attention_weight=1.0, relational_weight=1.0), False),
        (TermWeights(channel_weight=0.5), True),
        (TermWeights(feature_weight=0.5), True),
    ],
)
def test_adapters_are_there_where_channels_are_compared(terms, adapters):
    model = student_of(teacher_of(terms))
    assert (model.soft_loss.adapters is not None) is adapters
    assert any("adapters" in name for name, _ in model.named_parameters()) is adapters
    total, items = model.loss(batch_of())
    total.backward()
    assert set(items) >= set(terms.names())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_calibration_lets_each_term_pull_at_the_neck_with_its_share(precision):
    """Seen from outside: each term's own gradient at the neck, when it alone is left of the loss."""
    batch = batch_of()
    distillation = teacher_of(calibrate_batches=1, calibrate_share=SHARES)
    model = student_of(distillation, precision)
    model.loss(batch)
    assert not model.soft_loss.calibration.measuring
    factors = model.soft_loss.calibration.multipliers()
    assert all(factor != 1.0 for factor in factors.values()), "every term has a gradient at the neck"

    def pull(terms, soft, hard):
        """Gradient norm at the neck, a picture's share."""
        alone = replace(distillation, terms=terms, weights_at=lambda _: EpochWeights("x", soft, hard, 2.0))
        fresh = student_of(replace(alone, calibrate_batches=0), precision)
        felt = []

        def listen(_, given):
            for level in given[0]:
                level.register_hook(felt.append)

        fresh.model[-1].register_forward_pre_hook(listen)
        fresh.loss(batch)[0].backward()
        assert len(felt) == 3
        return sum(float(gradient.double().square().sum()) for gradient in felt) ** 0.5 / len(batch["img"])

    off = 1e-4 if precision == "fp32" else 0.05
    labels = pull(EVERY_TERM, soft=0.0, hard=1.0)
    for name, factor in factors.items():
        alone = TermWeights(**{name.replace("kd_", "") + "_weight": 1.0})
        assert factor * pull(alone, soft=1.0, hard=0.0) == pytest.approx(SHARES[name] * labels, rel=off)


def test_a_calibrated_term_weighs_what_its_share_says_whatever_its_weight():
    def said(share, weight):
        terms = TermWeights(class_weight=weight, box_weight=1.0)
        model = student_of(teacher_of(terms, calibrate_batches=1, calibrate_share={"kd_class": share, "kd_box": 0.1}))
        model.loss(batch_of())
        return model.loss(batch_of(1))[1]

    once, heavier, pulling = said(0.1, 1.0), said(0.1, 5.0), said(0.5, 1.0)
    assert heavier["kd_class"].item() == pytest.approx(once["kd_class"].item(), rel=1e-5)
    assert pulling["kd_class"].item() == pytest.approx(5 * once["kd_class"].item(), rel=1e-5)
    assert pulling["kd_box"].item() == once["kd_box"].item()


def test_calibration_ends_after_its_batches_and_multiplies_what_is_logged():
    plain, calibrated = student_of(teacher_of()), student_of(teacher_of(calibrate_batches=2, calibrate_share=SHARES))
    for seed in range(4):
        calibrated.loss(batch_of(seed))
        assert calibrated.soft_loss.calibration.seen == min(seed + 1, 2)
    factors = calibrated.soft_loss.calibration.multipliers()
    expected, found = (model.loss(batch_of(9))[1] for model in (plain, calibrated))
    ratios = {name: (found[name] / expected[name]).item() for name in EVERY_TERM.names()}
    assert ratios == pytest.approx(factors, rel=1e-3)


def trained(run, stop_at=None):
    """Train; ``stop_at``: the epoch, from 0, at whose beginning the training is broken off."""
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    trainer = RetortTrainer(run)

    def stop(_):
        if trainer.epoch == stop_at:
            raise KeyboardInterrupt

    trainer.add_callback("on_train_epoch_start", stop)
    if stop_at is None:
        trainer.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    return trainer


def beside(trainer):
    """What is trained and measured beside the student."""
    return {name: value for name, value in trainer.model.state_dict().items() if name.startswith("soft_loss.")}


@pytest.fixture(scope="module")
def run(training_project, tmp_path_factory):
    distillation = teacher_of(calibrate_batches=3, calibrate_share=SHARES)
    plain = training_of(training_project, tmp_path_factory.mktemp("distiller"), answers=None, epochs=3)
    return replace(plain, soft_loss=distillation)


@pytest.fixture(scope="module")
def whole(run):
    return trained(run)


def test_adapters_are_in_the_optimizer_and_learn(run, whole):
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    optimized = {id(weight) for group in whole.optimizer.param_groups for weight in group["params"]}
    adapters = list(whole.model.soft_loss.adapters.parameters())
    assert len(adapters) == 3 * 4 + 2
    assert {id(weight) for weight in adapters} <= optimized
    fresh = RetortTrainer(replace(run, folder=run.folder.with_name("fresh")))
    fresh.setup_model()
    moved = zip(fresh.model.soft_loss.adapters.parameters(), adapters, strict=True)
    assert not any(torch.equal(start, end) for start, end in moved)


def test_nothing_beside_the_student_is_averaged_or_saved(run, whole):
    from ultralytics.nn.tasks import DetectionModel

    assert type(whole.ema.ema) is DetectionModel
    assert set(whole.ema.ema.state_dict()) == set(run.model.state_dict())
    for name in ("last.pt", "best.pt"):
        path = run.folder / "resume" / name
        assert not {module for module in modules_in(path) if "kd_steps" in module}
        stored = torch.load(path, weights_only=False)
        saved = stored["ema"] if stored.get("ema") is not None else stored["model"]
        assert set(saved.state_dict()) == set(run.model.state_dict())


def test_a_resumed_training_goes_on_with_its_adapters_and_its_calibration(run, whole):
    other = replace(run, folder=run.folder.with_name("stopped"))
    first = beside(trained(other, stop_at=1))
    again = beside(trained(other))
    expected = beside(whole)
    assert {name.split(".")[1] for name in expected} == {"adapters", "calibration"}
    assert again.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in again.items())
    assert not all(torch.equal(value, expected[name]) for name, value in first.items())
    assert int(expected["soft_loss.calibration.seen"]) == 3


def test_the_student_given_back_is_plain(run, whole):
    from ultralytics.nn.tasks import DetectionModel

    from kd_steps.adapters.yolo.train.training import train

    model = train(run)  # the training is over: it only hands its weights over
    assert type(model) is DetectionModel
    assert set(model.state_dict()) == set(run.model.state_dict())
    assert list(model.names.values()) == CLASSES
