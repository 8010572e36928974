"""`retort cache info`: what is there, in words and as JSON, and what is no cache."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cache_tool import none_at_all, own_teacher, parts, run, unfinished

from kd_steps import cache_logits
from kd_steps.adapters.cache.contents import cache_contents
from kd_steps.adapters.cache.store import TeacherCache
from kd_steps.adapters.files import write_json
from kd_steps.artifacts import read_json
from kd_steps.core.cache.keys import CacheKeys

pytestmark = pytest.mark.slow


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
    counts = [len(stored.targets(key.image, key.view).one_to_many.anchors) for key in keys]
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
    write_json(root / "data/cache/header.json", {name: header[name] for name in header if name != "recipe"})


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
        (older_header, "header.json: has no recipe: another version of Retort wrote it"),
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
