"""`retort cache`: what is exact passes, what is not is told with its size, and what cannot be used is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cache_tool import none_at_all, own_teacher, parts, run, unfinished
from cache_writer import flip_a_bit
from training_fixture import decided_model, params_of, stage_environment, write_model, write_params

from kd_steps.adapters.files import write_json
from kd_steps.artifacts import read_json

pytestmark = pytest.mark.slow


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
    from kd_steps.jobs.cache_filling import fill

    params, header, _, images, plan = parts(project)
    shutil.rmtree("data/cache")
    fill(params, Path("data/cache"), header, decided_model(seed=2), images, plan)
    capsys.readouterr()
    code, said, _ = run(capsys, "verify", "--sample", "4")
    assert code == 1
    assert "NOT EXACT; remove data/cache and run `dvc repro`" in said
    report = json.loads(run(capsys, "verify", "--sample", "4", "--json")[1])
    assert report["passed"] is False
    assert report["largest_error"]["class_probability"] > 0.1
    assert report["other_pixels"] == []


def test_other_pixels_are_told_by_name(project, capsys):
    from kd_steps.jobs.cache_filling import fill

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


@pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="a processor without bf16 answers in one number format alone"
)
def test_answers_of_another_number_format_are_held_to_their_bytes(project, capsys):
    """As those of a machine with a GPU; what this machine answered is answered again."""
    from kd_steps.jobs.cache_filling import fill

    params, header, model, images, plan = parts(project)
    shutil.rmtree("data/cache")
    elsewhere = params.model_copy(update={"compute": params.compute.model_copy(update={"precision": "bf16"})})
    fill(elsewhere, Path("data/cache"), header, model, images, plan)
    capsys.readouterr()
    code, said, told = run(capsys, "verify")
    assert (code, said) == (1, "")
    assert "all views were answered in bf16, and this machine answers in fp32: verify them on one that" in told
    (project / "data/cache/shard-mosaic-000-001.sha256").unlink()
    assert fill(params, Path("data/cache"), header, model, images, plan)[1] == 4
    capsys.readouterr()
    code, said, _ = run(capsys, "verify", "--json")
    report = json.loads(said)
    assert (code, report["sample"], report["views_by_precision"]) == (0, 4, {"bf16": 12, "fp32": 4})
    assert "as answered in another number format: 12 of bf16" in run(capsys, "verify")[1]
    assert "answered in   bf16 (12 views), fp32 (4 views)" in run(capsys, "info")[1]
    flip_a_bit(project / "data/cache/shard-mosaic-000-000.arrow")
    assert "shard-mosaic-000-000.arrow: does not have the bytes" in run(capsys, "verify")[2]


def test_every_damaged_shard_is_named(project, capsys):
    flip_a_bit(project / "data/cache/shard-mosaic-000-001.arrow")
    (project / "data/cache/shard-closing-000-001.sha256").unlink()
    code, said, told = run(capsys, "verify", "--json")
    assert (code, said) == (1, "")
    assert "shard-mosaic-000-001.arrow: does not have the bytes that shard-mosaic-000-001.sha256 tells" in told
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


def retort(root, *arguments):
    command = [sys.executable, "-m", "flows.cli", "cache", *arguments]
    return subprocess.run(command, cwd=root, env=stage_environment(), capture_output=True, text=True, check=False)


def test_the_command_line_hands_over_words_and_exit_code(project):
    assert "no dvc.yaml here" in retort(project, "info").stderr
    (project / "dvc.yaml").touch()
    done = retort(project, "verify", "--sample", "2", "--seed", "3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seed"] == 3
    flip_a_bit(project / "data/cache/shard-mosaic-000-000.arrow")
    done = retort(project, "verify")
    assert done.returncode == 1
    assert "shard-mosaic-000-000.arrow: does not have the bytes" in done.stderr
    assert "0.05 px" in retort(project, "verify", "--help").stdout
    assert retort(project, "verify", "--sample", "0").returncode == 2
