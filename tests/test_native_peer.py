"""The peer of the distillation benchmark, Ultralytics' own distillation in our trainer, does run and does distil."""

import csv
import sys
from pathlib import Path

import pytest
import torch
from trainer_fixture import training_of
from training_fixture import decided_model

pytestmark = pytest.mark.slow


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent / "bench"), *sys.path])
    import distill_native

    return distill_native


def test_the_student_learns_from_a_teacher_that_stays_as_it_is(native, training_project, tmp_path):
    from kd_steps.adapters.yolo.models import save_weights

    teacher = decided_model(9)
    save_weights(teacher, tmp_path / "teacher.pt")
    options = {"distill_model": str(tmp_path / "teacher.pt")}
    run = training_of(training_project, tmp_path / "run", None, epochs=2, options=options)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    trainer = native.NativeTrainer(run)
    trainer.train()

    with trainer.csv.open() as stream:
        rows = list(csv.DictReader(stream, skipinitialspace=True))
    losses = [float(row["train/dis_loss"]) for row in rows]
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)
    student = trainer.detector().state_dict()
    assert not torch.equal(student["model.0.conv.weight"], before["model.0.conv.weight"])
    kept = trainer.model.teacher_model.state_dict()
    assert all(torch.equal(kept[name].half(), value.half()) for name, value in teacher.state_dict().items())
