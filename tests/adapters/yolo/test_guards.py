"""A loss that is no number stops a training; clipping, averaging and the learning-rate guard keep steps small."""

import re
from dataclasses import replace

import pytest
import torch
from answer_content import content
from heads_fixture import student
from trainer_fixture import PoisonedAnswers, rows_of, training_of

from kd_steps.core.distill.lr_guard import LearningRateGuard

pytestmark = pytest.mark.slow


def train_with(run):
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    trainer = RetortTrainer(run)
    trainer.train()
    return trainer


def logged(run):
    return rows_of(run.folder / "run/results.csv")


def test_a_loss_that_is_no_number_stops_with_the_pictures_and_leaves_the_last_good_epoch(training_project, tmp_path):
    """One number of the teacher's answer to one picture's view is NaN, in the second epoch."""
    from kd_steps.adapters.yolo.guards import NotFiniteError
    from kd_steps.adapters.yolo.train.training import train

    run = training_of(training_project, tmp_path, PoisonedAnswers, epochs=3)
    answers, picture = run.soft_loss.cached, run.train[5]
    view = run.plan.at(1)
    good = answers.poison(picture.digest, view)
    with pytest.raises(NotFiniteError) as caught:
        train(run)
    told = str(caught.value)
    assert "the loss is not finite in epoch 2 (kd_box = nan)" in told
    assert str(picture.path) in told
    named = [str(image.path) for image in run.train if str(image.path) in told]
    assert len(named) == run.options["batch"], "its batch and nobody else"
    assert f"{tmp_path / 'resume/last.pt'} holds the last good epoch" in told
    asked_before = len(answers.asked)
    assert asked_before <= 16, "it was not tried again"
    stored = torch.load(tmp_path / "resume/state.pt", weights_only=True)
    assert stored["epoch"] == 0
    assert all(torch.isfinite(value).all() for value in stored["model"].values())

    answers.stored[picture.digest, view] = good
    assert train(run) is not None
    assert [row["epoch"] for row in logged(run)] == ["1", "2", "3"]
    assert len(answers.asked) == asked_before + 16, "the run went on behind the first epoch"


def test_a_loss_that_is_no_number_in_the_first_epoch_says_that_nothing_was_kept(training_project, tmp_path):
    from kd_steps.adapters.yolo.guards import NotFiniteError

    run = training_of(training_project, tmp_path, PoisonedAnswers)
    run.soft_loss.cached.poison(run.train[0].digest, run.plan.at(0))
    with pytest.raises(NotFiniteError, match=r"in epoch 1 .*no epoch was finished before it"):
        train_with(run)


def test_a_gradient_that_is_no_number_stops_before_the_step(training_project, tmp_path):
    """Weights of 1e-19 before a batch norm without ε to speak of: the loss is as ever, their gradient overflows."""
    from kd_steps.adapters.yolo.guards import NotFiniteError

    run = training_of(training_project, tmp_path, None)
    first = run.model.model[0]
    first.conv.weight.data *= 1e-19 / first.conv.weight.data.std()
    first.bn.eps = 1e-45
    with pytest.raises(NotFiniteError, match=r"the gradient is not finite in epoch 1 \(norm = inf\).*\.png"):
        train_with(run)


def test_a_scaler_that_leaves_out_every_step_stops_the_training(training_project, tmp_path):
    """Mixed precision on a CPU stands in for a GPU's: the scaler is the same."""
    from kd_steps.adapters.yolo.guards import NotFiniteError
    from kd_steps.adapters.yolo.train.trainer import MOST_LEFT_OUT, RetortTrainer

    trainer = RetortTrainer(training_of(training_project, tmp_path, None))
    trainer._setup_train()
    trainer.scaler, trainer.epoch = torch.amp.GradScaler("cpu"), 0

    def step(gradient):
        loss = sum((weight.float() * gradient).sum() for weight in trainer.model.parameters() if weight.requires_grad)
        trainer.scaler.scale(loss).backward()
        trainer.optimizer_step()

    for _ in range(MOST_LEFT_OUT):
        step(torch.inf)
    step(1e-3)
    for _ in range(MOST_LEFT_OUT):
        step(torch.inf)
    with pytest.raises(NotFiniteError, match="the gradient is not finite in epoch 1"):
        step(torch.inf)


def broken(outputs, **changes):
    """Outputs of a teacher with one number changed."""
    for name, value in changes.items():
        values = getattr(outputs.one_to_many, name).clone()
        values[0, 0, 0] = value
        outputs = replace(outputs, one_to_many=replace(outputs.one_to_many, **{name: values}))
    return outputs


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"class_logits": torch.nan}, "class logits of its one-to-many branch"),
        ({"class_logits": torch.inf, "boxes": -torch.inf}, "class logits and boxes of its one-to-many branch"),
    ],
)
def test_a_teacher_that_answers_no_numbers_does_not_pass_for_one_that_sees_nothing(changes, told):
    from kd_steps.adapters.yolo.guards import NotFiniteError
    from kd_steps.adapters.yolo.teach.teacher import targets_of

    asked, sound = content(), student()
    with pytest.raises(NotFiniteError, match=rf"the teacher's answer is not finite \({told}\).*precision: fp32"):
        targets_of(broken(sound, **changes), [0] * 3, asked)
    with pytest.raises(NotFiniteError, match="features of its neck"):
        targets_of(replace(sound, features=[*sound.features[1:], sound.features[0] * torch.nan]), [0] * 3, asked)


def test_a_message_names_few_of_many_pictures(tmp_path):
    from kd_steps.adapters.yolo.guards import NotFiniteError, require_finite_loss

    pictures = [f"{n}.png" for n in range(40)]
    parts = {"box_loss": torch.tensor(1.0), "kd_class": torch.tensor(2.0)}
    with pytest.raises(NotFiniteError, match=r"\(their weighted sum\).* 31\.png and 8 more"):
        require_finite_loss(torch.tensor(torch.inf), parts, pictures, 0, tmp_path / "last.pt")


def test_the_guard_cuts_the_learning_rate_from_the_next_epoch_on_and_a_resume_remembers(
    training_project, tmp_path, caplog
):
    from kd_steps.adapters.yolo.train.training import train

    guard = LearningRateGuard(ratio=1e-3, factor=0.5, floor=0.3)
    run = training_of(training_project, tmp_path / "a", PoisonedAnswers, epochs=4)
    guarded = replace(run, soft_loss=replace(run.soft_loss, guard=guard))
    train(guarded)
    columns = [name for name in logged(guarded)[0] if name.startswith("lr/")]
    assert columns
    planned = [0.01 * (1 - 0.99 * epoch / 4) for epoch in range(4)]
    for row, rate, share in zip(logged(guarded), planned, (1.0, 0.5, 0.3, 0.3), strict=True):
        assert [float(row[name]) for name in columns] == pytest.approx([rate * share] * len(columns), rel=1e-4)
    said = [line for line in caplog.messages if "from the next epoch on, the learning rate is" in line]
    assert [re.search(r"epoch \d", line)[0] for line in said] == ["epoch 1", "epoch 2"]
    assert "exceed 0.001 times the label loss" in said[0]

    answers = run.soft_loss.cached
    good = answers.poison(run.train[2].digest, run.plan.at(3))
    stopped = replace(guarded, folder=tmp_path / "b")
    with pytest.raises(ValueError, match="in epoch 4"):
        train(stopped)
    answers.stored[run.train[2].digest, run.plan.at(3)] = good
    train(stopped)
    assert [row[columns[0]] for row in logged(stopped)] == [row[columns[0]] for row in logged(guarded)]


@pytest.mark.parametrize(
    ("teacher", "clip", "largest"), [(None, 0.01, 0.01), (PoisonedAnswers, 0.01, 0.02), (None, 0.0, None)]
)
def test_gradients_are_clipped_to_the_norm_asked_for_each_loss(training_project, tmp_path, teacher, clip, largest):
    """Plain SGD with rate 1 moves the weights by the gradient itself, so one step is as long as its norm."""
    run = training_of(training_project, tmp_path, teacher, epochs=1)
    options = {**run.options, "batch": 8, "nbs": 8, "lr0": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    trainer = train_with(replace(run, options=options, mechanics=replace(run.mechanics, clip_norm=clip)))
    after = dict(trainer.model.named_parameters())
    moved = torch.stack([(after[name] - before[name]).square().sum() for name in before]).sum().sqrt().item()
    if largest is None:
        assert moved > 0.1
    else:
        assert moved == pytest.approx(largest, rel=1e-3)


def test_the_average_follows_its_knobs(training_project, tmp_path):
    """A decay of 0 keeps the last weights; a quick ramp to 1 keeps nearly the first ones."""
    run = training_of(training_project, tmp_path / "0", None, epochs=1)
    none = train_with(replace(run, mechanics=replace(run.mechanics, ema_decay=0.0)))
    live, average = none.model.state_dict(), none.ema.ema.state_dict()
    assert all(torch.allclose(average[name], value) for name, value in live.items() if value.is_floating_point())
    slow = replace(run.mechanics, ema_decay=0.999999, ema_ramp_updates=1e-3)
    kept = train_with(replace(run, folder=tmp_path / "1", mechanics=slow)).ema.ema.state_dict()
    start = run.model.state_dict()
    assert all(
        torch.allclose(kept[name], value, atol=1e-4) for name, value in start.items() if value.is_floating_point()
    )
    assert not all(torch.allclose(live[name], value, atol=1e-4) for name, value in start.items())


def test_a_training_is_validated_as_often_as_it_is_told_and_at_its_end(training_project, tmp_path):
    run = replace(training_of(training_project, tmp_path, None, epochs=3), val_interval_epochs=2)
    train_with(run)
    assert [row["metrics/mAP50(B)"] == "nan" for row in logged(run)] == [True, False, False]
