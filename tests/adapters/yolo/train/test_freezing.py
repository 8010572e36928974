"""What is frozen keeps its bytes, batch norm statistics and all; what is not, learns."""

from dataclasses import replace

import pytest
import torch
from trainer_fixture import PoisonedAnswers, training_of
from training_fixture import decided_model

pytestmark = pytest.mark.slow


def frozen_layers(model, layers=0, blocks=0):
    from kd_steps.adapters.yolo.train.freezing import frozen_layers

    return frozen_layers(model, layers, blocks)


@pytest.mark.parametrize(
    ("architecture", "kept"),
    [
        ("yolov5n.yaml", [3, 5, 7, 9]),
        ("yolov8n.yaml", [3, 5, 7, 9]),
        ("yolov9t.yaml", [3, 5, 7, 9]),
        ("yolov10n.yaml", [3, 5, 7, 9]),
        ("yolo11n.yaml", [3, 5, 7, 9]),
        ("yolo12n.yaml", [3, 5, 7, 9]),
        ("yolo26n.yaml", [3, 5, 7, 9]),
    ],
)
def test_blocks_are_found_in_every_family(architecture, kept):
    from kd_steps.adapters.yolo.train.freezing import FreezingError

    model = decided_model(architecture=architecture)
    assert [frozen_layers(model, blocks=blocks) for blocks in (1, 2, 3, 4)] == kept
    with pytest.raises(
        FreezingError, match=r"freeze_blocks: 5, but the backbone has 4 CSP block\(s\), as layers \[2, "
    ):
        frozen_layers(model, blocks=5)


def test_the_larger_of_layers_and_blocks_counts():
    model = decided_model()
    assert frozen_layers(model) == 0
    assert frozen_layers(model, layers=10, blocks=3) == 10
    assert frozen_layers(model, layers=2, blocks=3) == 7


def test_a_model_cannot_be_frozen_whole():
    from kd_steps.adapters.yolo.train.freezing import FreezingError

    model = decided_model()
    assert frozen_layers(model, layers=23) == 23
    with pytest.raises(FreezingError, match=r"freeze_layers: 24 leaves nothing to train, the model has 24 layers"):
        frozen_layers(model, layers=24)


def weights_after(run):
    """State of the live model and of the average, layer by layer."""
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    trainer = RetortTrainer(run)
    trainer.train()
    return trainer.model, trainer.ema.ema


def moved(model, start):
    """Numbers of the layers whose state (weights or statistics) is not as at the start."""
    return [
        number
        for number, (mine, other) in enumerate(zip(model.model, start.model, strict=True))
        if any(not torch.equal(value, other.state_dict()[name]) for name, value in floats(mine))
    ]


def floats(layer):
    return [(name, value) for name, value in layer.state_dict().items() if value.is_floating_point()]


def with_state(start):
    return [number for number, layer in enumerate(start.model) if floats(layer)]


def test_frozen_layers_and_their_statistics_stay(training_project, tmp_path):
    run = training_of(training_project, tmp_path, options={"freeze": 7}, epochs=1)
    live, average = weights_after(run)
    free = [number for number in with_state(run.model) if number >= 7]
    assert moved(live, run.model) == free
    assert moved(average, run.model) == free


def test_the_head_alone_learns_at_first_also_over_a_resume(training_project, tmp_path):
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer
    from kd_steps.adapters.yolo.train.training import train

    run = training_of(training_project, tmp_path / "a", PoisonedAnswers, epochs=3)
    run = replace(run, mechanics=replace(run.mechanics, head_only_epochs=2), options={**run.options, "freeze": 3})
    head, answers = len(run.model.model) - 1, run.soft_loss.cached
    trainer, states = RetortTrainer(run), []
    trainer.add_callback("on_train_epoch_end", lambda t: states.append(moved(t.model, run.model)))
    trainer.train()
    assert states == [[head], [head], [number for number in with_state(run.model) if number >= 3]]

    good = answers.poison(run.train[0].digest, run.plan.at(1))
    stopped = replace(run, folder=tmp_path / "b")
    with pytest.raises(ValueError, match="in epoch 2"):
        train(stopped)
    answers.stored[run.train[0].digest, run.plan.at(1)] = good
    again = RetortTrainer(stopped)
    again.train()
    expected = trainer.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in again.model.state_dict().items())


def test_terms_are_calibrated_once_the_neck_learns(training_project, tmp_path):
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    run = training_of(training_project, tmp_path)
    run = replace(
        run,
        mechanics=replace(run.mechanics, head_only_epochs=1),
        soft_loss=replace(
            run.soft_loss,
            calibrate_batches=2,
            calibrate_share=dict.fromkeys(run.soft_loss.terms.names(), 0.1),
        ),
    )
    trainer, seen = RetortTrainer(run), []
    trainer.add_callback("on_train_epoch_end", lambda t: seen.append(t.model.soft_loss.calibration.seen.item()))
    trainer.train()
    assert seen == [0, 2]
    assert (trainer.model.soft_loss.calibration.term_norms > 0).all()
