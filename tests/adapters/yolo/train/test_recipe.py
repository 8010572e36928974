"""From parameters to a training, and what is measured afterwards."""

from types import SimpleNamespace

import pytest
import torch
from training_fixture import decided_model, params_of

from kd_steps.adapters.files import sha256_of
from kd_steps.core.detect.views import View

pytestmark = pytest.mark.slow


@pytest.fixture
def section(training_project):
    return params_of(training_project).train_teacher


def test_weights_of_other_classes_keep_all_but_their_class_layers(section, tmp_path):
    from kd_steps.adapters.yolo.models import save_weights
    from kd_steps.adapters.yolo.train.recipe import initial_model

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
    import torch

    with torch.no_grad():
        outputs = model.eval()(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed)))[1]
    return outputs["scores"]


def started_from(section, source, classes, folder, seed=0):
    """What a training of ``classes`` starts from, given a weight file of ``source``."""
    from kd_steps.adapters.yolo.models import save_weights
    from kd_steps.adapters.yolo.train.recipe import initial_model

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


def test_a_teachers_epochs_all_show_other_views(section):
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan

    plan = fresh_views_plan(section.changed(epochs=20, close_mosaic_fraction=0.2))
    assert len(plan.all_views()) == 20
    assert [plan.at(epoch).closing for epoch in range(20)] == [False] * 16 + [True] * 4
    assert plan.at(16) == View(True, 0)


def test_seconds_and_epochs_count_once_over_a_kill(tmp_path):
    """Three epochs of 10 s; killed in the third after its row was written, and gone on with at 20 s."""
    from kd_steps.adapters.yolo.train.recipe import finish

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
    from kd_steps.adapters.yolo.train.recipe import finish

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


def test_names_for_a_person(section):
    from kd_steps.adapters.yolo.train.recipe import model_name

    assert model_name(section) == "yolo11 (depth 0.25, width 0.125)"
    assert model_name(section.model_copy(update={"model": "yolo11s.yaml"})) == "yolo11s"
    assert model_name(section, "models:/x@y") == "models:/x@y"


@pytest.mark.parametrize(("images", "kept"), [(873, True), (874, False)])
def test_pictures_are_kept_in_memory_while_they_take_a_quarter_of_it_at_most(images, kept):
    """A picture of 640 px takes 1,228,800 bytes decoded."""
    from kd_steps.adapters.yolo.train.recipe import fits_in_memory

    assert fits_in_memory(images, 640, 4 * 2**30) is kept
