"""`retort cache` run in this process, and caches that it cannot use."""

import shutil

import pytest
from training_fixture import params_of, write_params

from kd_steps.adapters.data.reader import load_prepared
from kd_steps.jobs import cache_tool as cache
from kd_steps.stage_entry import ENVIRONMENT


def run(capsys, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)  # the tool would set it for good
        with pytest.raises(SystemExit) as ended:
            cache.main(arguments)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def parts(root):
    """What the cache was made of."""
    from kd_steps.adapters.yolo.teach.answering import trained
    from kd_steps.jobs.cache_setting import cache_header, distillation_plan

    params, prepared = params_of(root), load_prepared(root / "data/prepared")
    plan, images = distillation_plan(params), prepared.split("train")
    sidecar, model = trained(params, root / "models/teacher")
    return params, cache_header(params, plan, sidecar, model, prepared.digest), model, images, plan


def unfinished(root):
    for path in (root / "data/cache").glob("shard-closing-000-001.*"):
        path.unlink()


def none_at_all(root):
    shutil.rmtree(root / "data/cache")


def own_teacher(root):
    section = params_of(root).cache_logits.model_dump(mode="json")
    write_params(root, cache_logits=section, distill={"answers": "ema"})
