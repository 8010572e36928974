"""From parameters to a training, and what is measured afterwards."""

from types import SimpleNamespace

import pytest
import torch
from training_fixture import decided_model, params_of

from kd_steps.adapters.files import sha256_of
from kd_steps.core.views import View


@pytest.fixture
def section(training_project):
    return params_of(training_project).train_teacher


def test_weights_of_other_classes_keep_all_but_their_class_layers(section, tmp_path):
    from kd_steps.adapters.yolo.models import save_weights
    from kd_steps.adapters.yolo.recipe import initial_model

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


def test_a_teachers_epochs_all_show_other_views(section):
    from kd_steps.adapters.yolo.recipe import teacher_plan

    plan = teacher_plan(section.model_copy(update={"epochs": 20, "close_mosaic_fraction": 0.2}))
    assert len(plan.all_views()) == 20
    assert [plan.at(epoch).closing for epoch in range(20)] == [False] * 16 + [True] * 4
    assert plan.at(16) == View(True, 0)


def test_seconds_and_epochs_count_once_over_a_kill(tmp_path):
    """Three epochs of 10 s; killed in the third after its row was written, and gone on with: the clock began anew."""
    from kd_steps.adapters.yolo.recipe import finish

    table = tmp_path / "run/results.csv"
    table.parent.mkdir()
    (tmp_path / "resume").mkdir()
    rows = ["1,10,0.1,0.05", "2,20,0.2,0.1", "3,30,0.3,0.2", "3,12,0.4,0.25", "4,22,0.5,0.3"]
    table.write_text("epoch,time,metrics/mAP50(B),metrics/mAP50-95(B)\n" + "\n".join(rows) + "\n")
    run = SimpleNamespace(
        folder=tmp_path,
        new_parts=None,
        train=[0] * 42,
        device="cpu",
        precision=SimpleNamespace(name="fp32"),
        processes=1,
    )
    measured = finish(run, decided_model(), tmp_path / "weights.pt")
    assert measured["epochs"] == 4
    assert measured["seconds"] == 42.0  # 20 before the kill that count, 12 and 10 after it
    assert measured["pictures_per_second"] == 4.0
    assert (measured["val_map50"], measured["val_map50_95"]) == (0.5, 0.3)
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 5
    assert not (tmp_path / "run").exists()


def test_names_for_a_person(section):
    from kd_steps.adapters.yolo.recipe import model_name

    assert model_name(section) == "yolo11 (depth 0.25, width 0.125)"
    assert model_name(section.model_copy(update={"model": "yolo11s.yaml"})) == "yolo11s"
    assert model_name(section, "models:/x@y") == "models:/x@y"
