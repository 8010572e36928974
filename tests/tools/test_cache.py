"""`retort cache`: what is exact passes, what is not is told with its size, and what cannot be used is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training_fixture import (
    decided_model,
    params_of,
    stage_environment,
    write_model,
    write_params,
    write_training_project,
)

from kd_steps import cache_logits
from kd_steps.adapters.cache_contents import cache_contents
from kd_steps.adapters.files import read_json, write_json
from kd_steps.adapters.prepared import load_prepared
from kd_steps.adapters.teacher_cache import CacheKeys, TeacherCache
from kd_steps.tools import cache

EVERYTHING = {"attention": True, "pooled": True, "max_vectors": 5, "pixels": True}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project with a teacher and a cache of all that one can hold; read-only."""
    root = write_training_project(tmp_path_factory.mktemp("verified"))
    section = params_of(root).cache_logits.model_dump(mode="json")
    write_params(root, cache_logits={**section, **EVERYTHING})
    write_model(root, "teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cache_logits.main()
    return root


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy to work in."""
    root = shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def run(capsys, *arguments):
    code = cache.main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def parts(root):
    """What the cache was made of."""
    from kd_steps.adapters.yolo.answering import cache_header, distillation_plan, trained

    params, prepared = params_of(root), load_prepared(root / "data/prepared")
    plan, images = distillation_plan(params), prepared.split("train")
    sidecar, model = trained(params, root / "models/teacher")
    return params, cache_header(params, plan, sidecar, model, prepared.digest), model, images, plan


def test_a_whole_cache_is_exact(project, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in project.glob("data/cache/*"))
    code, said, _ = run(capsys, "verify", "--json")
    report = json.loads(said)
    assert code == 0
    assert report["passed"] is True
    assert (report["views"], report["sample"], report["shards"], report["other_pixels"]) == (16, 16, 4, [])
    errors = report["largest_error"]
    assert errors["anchors"] > 500
    assert 0 < errors["class_probability"] <= 1e-3, "half precision rounds"
    assert 0 < errors["box_side_px"] <= 0.05
    assert errors["kept_score"] <= 1e-3
    assert 0 < errors["attention"] <= 0.51 / 255 + 1e-3
    assert errors["pooled"] < 2e-3
    assert 0 < errors["vectors"] <= 0.501 / 127 + 1e-3
    assert sorted((path, path.stat().st_mtime_ns) for path in project.glob("data/cache/*")) == before


def test_the_sample_is_drawn_by_its_seed(project, capsys):
    seen = [json.loads(run(capsys, "verify", "--json", "--sample", "3", "--seed", seed)[1]) for seed in "010"]
    assert [report["sample"] for report in seen] == [3] * 3
    assert seen[0] == seen[2]
    assert seen[0]["largest_error"] != seen[1]["largest_error"]


def test_a_person_reads_limits_and_verdict(project, capsys):
    code, said, _ = run(capsys, "verify", "--sample", "2")
    assert code == 0
    for words in ("4 shards with 16 views", "2 views (seed 0)", "models/teacher", "(limit 0.001)", "(limit 0.05 px)"):
        assert words in said
    assert said.endswith("exact\n")


def test_answers_of_another_teacher_under_this_ones_header_are_told(project, capsys):
    """As a machine whose numbers differ would leave them."""
    from kd_steps.teaching.cache_filling import fill

    params, header, _, images, plan = parts(project)
    shutil.rmtree("data/cache")
    fill(params, Path("data/cache"), header, decided_model(seed=2), images, plan)
    capsys.readouterr()
    code, said, _ = run(capsys, "verify", "--sample", "4")
    assert code == 1
    assert "NOT EXACT; remove data/cache and run `dvc repro cache_logits`" in said
    report = json.loads(run(capsys, "verify", "--sample", "4", "--json")[1])
    assert report["passed"] is False
    assert report["largest_error"]["class_probability"] > 0.1
    assert report["other_pixels"] == []


def test_other_pixels_are_told_by_name(project, capsys):
    from kd_steps.teaching.cache_filling import fill

    params, header, model, images, plan = parts(project)
    shutil.rmtree("data/cache")
    fill(params.model_copy(update={"seed": 1}), Path("data/cache"), header, model, images, plan)
    capsys.readouterr()
    code, said, _ = run(capsys, "verify", "--sample", "5", "--json")
    report = json.loads(said)
    assert code == 1
    assert len(report["other_pixels"]) == 5
    assert any(images[0].path.name in name for name in json.loads(run(capsys, "verify", "--json")[1])["other_pixels"])
    assert "View(closing=" in report["other_pixels"][0]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_every_damaged_shard_is_named(project, capsys):
    flip(project / "data/cache/shard-mosaic-000-001.arrow")
    (project / "data/cache/shard-closing-000-001.json").unlink()
    code, said, told = run(capsys, "verify", "--json")
    assert (code, said) == (1, "")
    assert "shard-mosaic-000-001.arrow: does not have the bytes that were written" in told
    assert "shard-closing-000-001.arrow: is missing or was not finished" in told
    assert "shard-mosaic-000-000" not in told


def other_teacher(root):
    write_model(root, "teacher", seed=7)


def other_seed(root):
    write_params(root, cache_logits=params_of(root).cache_logits.model_dump(mode="json"), seed=5)


def other_gains(root):
    section = params_of(root).cache_logits.model_dump(mode="json")
    write_params(root, cache_logits=section, augmentation={"scale": 0.4})
    write_model(root, "teacher")


def other_plan(root):
    section = params_of(root).cache_logits.model_dump(mode="json")
    write_params(root, cache_logits=section, distill={"epochs": 8})


def other_library(root):
    header = read_json(root / "data/cache/header.json")
    header["library_versions"]["torch"] = "1.0"
    write_json(root / "data/cache/header.json", header)


def unfinished(root):
    for path in (root / "data/cache").glob("shard-closing-000-001.*"):
        path.unlink()


def none_at_all(root):
    shutil.rmtree(root / "data/cache")


def own_teacher(root):
    section = params_of(root).cache_logits.model_dump(mode="json")
    write_params(root, cache_logits=section, distill={"answers": "ema"})


UNUSABLE = {
    other_teacher: r"made from something else \(teacher_sha256: ",
    other_seed: r"made from something else \(seed: 5 against 0\)",
    other_gains: r"made from something else \(contract_digest: .*augmentation_digest: ",
    other_plan: r"made from something else \(views: 2 against 1",
    other_library: r"made from something else \(library_versions: ",
    unfinished: r"holds 12 of 16 views",
    none_at_all: r"no teacher cache; run `dvc repro cache_logits`",
    own_teacher: r"the student is its own teacher and needs no cache",
}


@pytest.mark.parametrize("change", UNUSABLE)
def test_a_cache_that_cannot_be_used_is_refused_by_name(project, capsys, change):
    import re

    change(project)
    code, said, told = run(capsys, "verify")
    assert (code, said) == (1, "")
    assert told.startswith("error: data/cache: ")
    assert re.search(UNUSABLE[change], told)


def test_info_tells_what_is_there(project, capsys):
    _, header, _, images, plan = parts(project)
    code, said, _ = run(capsys, "info", "--json")
    report = json.loads(said)
    assert code == 0
    assert report["header"] == header.to_dict()
    assert (report["views"], report["pictures"], report["shards"]) == (16, 8, 4)
    assert report["teacher"] == "models/teacher (small)"
    keys = CacheKeys([image.digest for image in images], plan.all_views())
    stored = TeacherCache(Path("data/cache"), header, keys)
    counts = [len(stored.record(key.image, key.view).many.anchors) for key in keys]
    assert report["anchors_mean"] == pytest.approx(np.mean(counts))
    assert report["anchors_max"] == max(counts)
    columns = report["column_bytes"]
    assert columns["anchors"] == 4 * sum(counts)
    assert columns["box_bins"] == 72 * sum(counts)
    assert columns["class_logits"] == 2 * 2 * sum(counts)
    assert columns["pixel_hash"] == 8 * 16
    assert sum(columns.values()) == report["bytes"] == stored.bytes
    assert 0 < columns["framing"] < report["bytes"] / 10


def test_info_in_words(project, capsys):
    code, said, _ = run(capsys, "info")
    assert code == 0
    for words in (
        "V = 1 mosaic and 1 closing views, seed 0",
        "models/teacher (small)",
        "16 bins a side, one branch",
        "bridge, missing",
        "score above 0.01, at most 300",
        "attention maps, pooled channels, vectors of the 5 best anchors",
        "kept: no view is drawn again",
        "bytes in 4 shards",
    ):
        assert words in said
    assert said.index("\n    box_bins ") < said.index("\n    anchors "), "the largest column comes first"


def test_info_needs_neither_parameters_nor_data_nor_a_teacher(project, capsys):
    for name in ("params.yaml", "data/prepared", "models"):
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, said, _ = run(capsys, "info")
    assert code == 0
    assert "none that lies in models now, or several, sha256" in said


def older_header(root):
    header = read_json(root / "data/cache/header.json")
    write_json(root / "data/cache/header.json", {name: header[name] for name in header if name != "layout"})


def torn(root):
    path = root / "data/cache/shard-closing-000-000.arrow"
    path.write_bytes(path.read_bytes()[:100])


def left_empty(root):
    own_teacher(root)
    cache_logits.main()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (none_at_all, "data/cache: no teacher cache"),
        (older_header, "header.json: has no layout: another version of Retort wrote it"),
        (torn, "shard-closing-000-000.arrow: cannot be read"),
        (left_empty, "data/cache: empty, for distill.answers is ema"),
    ],
)
def test_info_of_what_is_no_cache(project, capsys, change, message):
    change(project)
    capsys.readouterr()
    code, said, told = run(capsys, "info")
    assert (code, said) == (1, "")
    assert message in told


def test_a_cache_in_the_making_can_be_looked_at(project):
    unfinished(project)
    assert cache_contents(Path("data/cache")).views == 12


def retort(root, *arguments):
    command = [sys.executable, "-m", "flows.cli", "cache", *arguments]
    return subprocess.run(command, cwd=root, env=stage_environment(), capture_output=True, text=True, check=False)


def test_the_command_line_hands_over_words_and_exit_code(project):
    assert "no dvc.yaml here" in retort(project, "info").stderr
    (project / "dvc.yaml").touch()
    done = retort(project, "verify", "--sample", "2", "--seed", "3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seed"] == 3
    flip(project / "data/cache/shard-mosaic-000-000.arrow")
    done = retort(project, "verify")
    assert done.returncode == 1
    assert "shard-mosaic-000-000.arrow: does not have the bytes" in done.stderr
    assert "0.05 px" in retort(project, "verify", "--help").stdout
    assert retort(project, "verify", "--sample", "0").returncode == 2
