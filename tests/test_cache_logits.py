"""Stage `cache_logits`: every view answered once, after a kill too."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from training_fixture import kill_when, params_of, tree_digest, write_model, write_params, write_training_project

from kd_steps import cache_logits
from kd_steps.adapters.prepared import load_prepared
from kd_steps.adapters.teacher_cache import CacheKeys, TeacherCache


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A project with a teacher and its cache; read-only."""
    root = write_training_project(tmp_path_factory.mktemp("cached"))
    write_model(root, "teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cache_logits.main()
    return root


def metrics(root):
    return json.loads((root / "metrics/cache.json").read_text())


def test_every_view_that_distillation_shows_is_answered_once(cached):
    found = metrics(cached)
    assert found["views"] == found["teacher_forwards"] == 16  # 8 pictures, one mosaic and one closing view
    assert found["bytes"] == sum(path.stat().st_size for path in (cached / "data/cache").glob("*.arrow"))
    assert len(list((cached / "data/cache").glob("*.arrow"))) == 4


def test_the_students_views_are_the_ones_the_teacher_saw(cached):
    from kd_steps.adapters.yolo.answering import cache_header, distillation_plan, frozen, trained, view_source

    params = params_of(cached)
    plan = distillation_plan(params)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cached)
        sidecar, model = trained(params, Path("models/teacher"))
    prepared = load_prepared(cached / "data/prepared")
    header = cache_header(params, plan, sidecar, model, prepared.digest)
    images = prepared.split("train")
    keys = CacheKeys([image.digest for image in images], plan.all_views())
    cache = TeacherCache(cached / "data/cache", header, keys)
    views = view_source(params, images, plan, header.augmentation_digest)
    source = view_source(params, images, plan, header.augmentation_digest)  # without a teacher, so views are drawn
    views.teacher = cache  # from now on every view is held to the pixels the teacher saw
    live, kept = frozen(params, model), 0
    for epoch in range(params.distill.epochs):
        for index in range(8):
            sample = views[(epoch, index)]
            drawn = source[(epoch, index)]
            assert all(torch.equal(sample[name], drawn[name]) for name in ("img", "cls", "bboxes"))
            (expected,) = live.records(sample["img"][None], [sample["pixel_hash"]])
            found = sample["teacher"]
            assert found.many.anchors.tolist() == expected.many.anchors.tolist()
            assert found.many.class_logits == pytest.approx(expected.many.class_logits, abs=0.02)
            assert found.neck.attention == pytest.approx(expected.neck.attention, abs=0.51 / 255)
            kept += len(expected.many.anchors)
    assert kept > 100


def test_a_second_run_asks_nothing(cached, tmp_path, monkeypatch, capsys):
    root = shutil.copytree(cached, tmp_path / "second")
    before = tree_digest(root / "data/cache")
    monkeypatch.chdir(root)
    cache_logits.main()
    assert "data/cache: resumed" in capsys.readouterr().out
    assert metrics(root)["teacher_forwards"] == 0
    assert tree_digest(root / "data/cache") == before


def test_a_kill_loses_no_finished_shard(cached, tmp_path, monkeypatch):
    root = tmp_path / "killed"
    shutil.copytree(cached, root, ignore=shutil.ignore_patterns("cache", "cache.json"))
    assert kill_when(root, "cache_logits", "data/cache/shard-00000.json") == signal.SIGKILL
    finished = [path.stem for path in (root / "data/cache").glob("shard-*.json")]
    assert len(finished) < 4
    kept = {name: d for name, d in tree_digest(root / "data/cache").items() if name.split(".")[0] in finished}
    monkeypatch.chdir(root)
    cache_logits.main()
    assert metrics(root)["teacher_forwards"] == 16 - 4 * len(finished)
    # The killed process may have had another number of threads, which moves a float's last bit; its shards stay.
    whole, undisturbed = tree_digest(root / "data/cache"), tree_digest(cached / "data/cache")
    assert {name: digest for name, digest in whole.items() if not name.startswith(".")} == undisturbed | kept


def test_another_seed_replaces_the_cache_and_says_why(cached, tmp_path, monkeypatch, capsys):
    root = shutil.copytree(cached, tmp_path / "seed")
    write_params(root, seed=1)
    monkeypatch.chdir(root)
    cache_logits.main()
    assert "another cache stood here (seed: 1 against 0)" in capsys.readouterr().out
    assert metrics(root)["teacher_forwards"] == 16


def test_a_teacher_that_is_not_its_sidecars_is_refused(cached, tmp_path, monkeypatch):
    root = shutil.copytree(cached, tmp_path / "torn")
    weights = root / "models/teacher/weights.pt"
    weights.write_bytes(weights.read_bytes()[:-1])
    monkeypatch.chdir(root)
    with pytest.raises(ValueError, match=r"weights\.pt: sha256 is .*, its sidecar says .*; run `dvc checkout`"):
        cache_logits.main()
    weights.unlink()
    with pytest.raises(ValueError, match=r"weights\.pt: missing, though its sidecar is there"):
        cache_logits.main()
