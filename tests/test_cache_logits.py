"""Stage `cache_logits`: every view answered once, after a kill too."""

import errno
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from training_fixture import SMALL, kill_when, params_of, run_stage_in, tree_digest, write_params

from kd_steps import cache_logits, distill
from kd_steps.adapters.cache.store import TeacherCache
from kd_steps.adapters.data.reader import load_prepared
from kd_steps.adapters.files import sole_writer, write_json
from kd_steps.artifacts import read_json
from kd_steps.core.cache.keys import CacheKeys
from kd_steps.core.detect.views import pixel_hash

pytestmark = pytest.mark.slow


def metrics(root):
    return json.loads((root / "metrics/cache.json").read_text())


def test_every_view_that_distillation_shows_is_answered_once(cached):
    found = metrics(cached)
    assert found["views"] == found["teacher_forwards"] == 16  # 8 pictures, one mosaic and one closing view
    assert found["bytes"] == sum(path.stat().st_size for path in (cached / "data/cache").glob("*.arrow"))
    assert len(list((cached / "data/cache").glob("*.arrow"))) == 4


def test_the_students_views_are_the_ones_the_teacher_saw(cached):
    from kd_steps.adapters.yolo.teach.answering import frozen, trained, view_source
    from kd_steps.jobs.cache_setting import cache_header, distillation_plan

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
            (expected,) = live.targets(sample["img"][None], [pixel_hash(sample["img"].numpy())])
            found = sample["teacher"]
            assert found.one_to_many.anchors.tolist() == expected.one_to_many.anchors.tolist()
            assert found.one_to_many.class_logits == pytest.approx(expected.one_to_many.class_logits, abs=0.02)
            assert found.neck.attention == pytest.approx(expected.neck.attention, abs=0.51 / 255)
            kept += len(expected.one_to_many.anchors)
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
    assert kill_when(root, "cache_logits", "data/cache/shard-mosaic-000-000.sha256") == signal.SIGKILL
    finished = [path.stem for path in (root / "data/cache").glob("shard-*.sha256")]
    assert len(finished) < 4
    kept = {name: d for name, d in tree_digest(root / "data/cache").items() if name.split(".")[0] in finished}
    monkeypatch.chdir(root)
    cache_logits.main()
    assert metrics(root)["teacher_forwards"] == 16 - 4 * len(finished)
    whole = tree_digest(root / "data/cache")
    assert whole == tree_digest(cached / "data/cache")
    assert whole == whole | kept


OTHER_STUDENTS = {
    "schedule": {"lr0": 0.5, "warmup_epochs": 1, "gamma_epochs": 9, "batch": 2},
    "weights": {"class_weight": 3.0, "box_weight": 0.5, "attention_weight": 2.0, "box_temperature": 2.0},
    "student": {"model": {**SMALL, "width_multiple": 0.25}},
}


@pytest.mark.parametrize("other", OTHER_STUDENTS)
def test_another_student_schedule_or_weights_pay_for_no_teacher_forward(cached, tmp_path, monkeypatch, other):
    root = shutil.copytree(cached, tmp_path / other)
    before = tree_digest(root / "data/cache")
    distill = params_of(root).distill.model_dump(mode="json")
    phases = {name: {**phase, "temperature": 1.5, "soft_weight": 2.0} for name, phase in distill["phases"].items()}
    write_params(root, distill={**distill, **OTHER_STUDENTS[other], "phases": phases})
    monkeypatch.chdir(root)
    cache_logits.main()
    assert metrics(root)["teacher_forwards"] == 0
    assert metrics(root)["views"] == 16
    assert tree_digest(root / "data/cache") == before


def test_a_longer_training_pays_for_its_new_views_alone_and_a_shorter_one_for_none(cached, tmp_path, monkeypatch):
    root, before = shutil.copytree(cached, tmp_path / "longer"), tree_digest(cached / "data/cache")
    distill = params_of(root).distill.model_dump(mode="json")
    monkeypatch.chdir(root)
    write_params(root, distill={**distill, "epochs": 8})
    cache_logits.main()
    longer = metrics(root)
    assert longer["teacher_forwards"] == longer["views"] - 16 > 0
    assert before.items() - tree_digest(root / "data/cache").items() == {("header.json", before["header.json"])}
    write_params(root, distill=distill)
    cache_logits.main()
    assert metrics(root)["teacher_forwards"] == 0
    assert tree_digest(root / "data/cache") == before


def tear(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def test_a_torn_shard_alone_is_made_again(cached, tmp_path, monkeypatch):
    root = shutil.copytree(cached, tmp_path / "torn")
    before = tree_digest(root / "data/cache")
    tear(root / "data/cache/shard-closing-000-000.arrow")
    assert tree_digest(root / "data/cache") != before
    monkeypatch.chdir(root)
    cache_logits.main()
    assert metrics(root)["teacher_forwards"] == 4
    assert tree_digest(root / "data/cache") == before


def test_a_flipped_bit_is_found_by_the_student_and_mended_as_it_says(cached, tmp_path, monkeypatch):
    """The stage does not read a finished cache again; with a hole in it, every other damaged shard is mended, too."""
    root = shutil.copytree(cached, tmp_path / "flipped")
    before, first = tree_digest(root / "data/cache"), root / "data/cache/shard-closing-000-000.arrow"
    flip_a_bit(first)
    flip_a_bit(root / "data/cache/shard-mosaic-000-001.arrow")
    monkeypatch.chdir(root)
    cache_logits.main()
    assert metrics(root)["teacher_forwards"] == 0
    with pytest.raises(ValueError, match=r"(?s)mosaic-000-001.*remove one of them and run `dvc repro -f -s cache_l"):
        distill.main()
    assert not (root / "models/student").exists(), "refused before anything is trained"
    first.unlink()
    cache_logits.main()
    assert metrics(root)["teacher_forwards"] == 8
    assert tree_digest(root / "data/cache") == before


def harm_the_head(header):
    return {**header, "bins": 15}


def rename_a_class(header):
    return {**header, "classes": ["solder bridge", *header["classes"][1:]]}


@pytest.mark.parametrize("harm", [harm_the_head, rename_a_class])
def test_a_header_that_a_disk_changed_is_mended_and_costs_no_answer(cached, tmp_path, monkeypatch, harm):
    """What is taken from the stored header, as only the teacher's network tells it, among it."""
    root = shutil.copytree(cached, tmp_path / "harmed")
    before, note = tree_digest(root / "data/cache"), root / "data/cache/header.json"
    write_json(note, harm(read_json(note)))
    assert tree_digest(root / "data/cache") != before
    monkeypatch.chdir(root)
    cache_logits.main()
    assert metrics(root)["teacher_forwards"] == 0
    assert tree_digest(root / "data/cache") == before


def test_a_full_disk_ends_the_stage_plainly_and_the_next_run_goes_on(cached, tmp_path):
    root = tmp_path / "full"
    shutil.copytree(cached, root, ignore=shutil.ignore_patterns("cache", "cache.json"))
    folder = root / "data/cache"
    folder.mkdir()
    size = max(path.stat().st_size for path in (cached / "data/cache").glob("*.arrow")) * 5 // 2 // 1024
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user may not mount a small file system: {done.stderr.strip()}")
    try:
        done = run_stage_in(root, "cache_logits")
        assert done.returncode == 1
        assert f"error: [Errno {errno.ENOSPC}]" in done.stderr
        assert os.strerror(errno.ENOSPC) in done.stderr
        assert "Traceback" not in done.stderr
        finished = len(list(folder.glob("shard-*.sha256")))
        assert 0 < finished < 4
        subprocess.run(["mount", "-o", "remount,size=10m", str(folder)], check=True)
        done = run_stage_in(root, "cache_logits")
        assert done.returncode == 0, done.stderr
        assert metrics(root)["teacher_forwards"] == 16 - 4 * finished
        assert tree_digest(folder) == tree_digest(cached / "data/cache")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_second_writer_is_refused(cached, tmp_path, monkeypatch):
    root = shutil.copytree(cached, tmp_path / "two")
    monkeypatch.chdir(root)
    with (
        sole_writer(root / "data/cache"),
        pytest.raises(ValueError, match="data/cache: another process is writing there"),
    ):
        cache_logits.main()


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
