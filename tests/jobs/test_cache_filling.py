"""A cache of several teachers: one that answers, as far as all that follows can see."""

import copy

import numpy as np
import pytest
from training_fixture import CLASSES, decided_model, params_of, write_model, write_params, write_training_project

from kd_steps import cache_logits, distill
from kd_steps.adapters.data.reader import load_prepared
from kd_steps.adapters.files import sha256_of
from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.artifacts import read_json

pytestmark = pytest.mark.slow


def more(root, name="more.pt", seed=2, classes=CLASSES, **changes):
    """A further teacher's weight file, and its entry in params.yaml."""
    from kd_steps.adapters.yolo.models import save_weights

    save_weights(decided_model(seed, classes), root / name)
    return {"weights": name, "weights_sha256": sha256_of(root / name), "weight": 1.0, "classes": [], **changes}


@pytest.fixture
def project(tmp_path, monkeypatch):
    root = write_training_project(tmp_path / "several")
    write_model(root, "teacher")
    monkeypatch.chdir(root)
    return root


def with_more(root, *entries):
    params = params_of(root).cache_logits.model_dump(mode="json")
    write_params(root, cache_logits={**params, "more_teachers": list(entries)})


def test_two_teachers_fill_one_cache_and_teach_one_student(project):
    with_more(project, more(project, weight=3.0))
    cache_logits.main()
    found, header = read_json(project / "metrics/cache.json"), read_json(project / "data/cache/header.json")
    assert found["teacher_forwards"] == 2 * found["views"] == 32
    assert header["teacher_sha256"] != read_sidecar(project / "models/teacher").sha256
    distill.main()
    student = read_sidecar(project / "models/student")
    assert student.lineage["cache"].items() <= header.items()
    assert student.lineage["teacher_sha256"] == read_sidecar(project / "models/teacher").sha256


def test_the_cache_holds_the_mean_of_both(project):
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.yolo.teach.answering import frozen, trained, view_source
    from kd_steps.core.cache.keys import CacheKeys
    from kd_steps.jobs.cache_setting import cache_header, distillation_plan

    with_more(project, more(project, weight=3.0))
    cache_logits.main()
    params, prepared = params_of(project), load_prepared()
    plan, images = distillation_plan(params), prepared.split("train")
    sidecar, model = trained(params, project / "models/teacher")
    header = cache_header(params, plan, sidecar, model, prepared.digest)
    cache = TeacherCache(project / "data/cache", header, CacheKeys([i.digest for i in images], plan.all_views()))
    everything = {"score_threshold": 0.0, "max_anchors": 84}
    asking = params.model_copy(update={"cache_logits": params.cache_logits.model_copy(update=everything)})
    views = view_source(params, images, plan, header.augmentation_digest)
    for view in plan.all_views():
        sample = views.view(0, view)
        stored = cache.targets(images[0].digest, view)
        first, second = (
            frozen(asking, one).targets(sample["img"][None], [0])[0].one_to_many
            for one in (model, decided_model(2).float())
        )
        mean = 0.25 * scores(first) + 0.75 * scores(second)
        assert scores(stored.one_to_many) == pytest.approx(mean[stored.one_to_many.anchors], abs=2e-3)
        assert (mean.max(axis=1) > 0.0102).sum() <= len(stored.one_to_many.anchors) <= (mean.max(axis=1) > 0.0098).sum()


def scores(answer):
    return 1 / (1 + np.exp(-answer.class_logits.astype(np.float64)))


def test_every_teachers_weight_counts_for_what_the_cache_is(project):
    from kd_steps.jobs.cache_setting import asked_sha256

    sidecar, entry = read_sidecar(project / "models/teacher"), more(project)
    other = more(project, "other.pt", 3)
    known = {asked_sha256(params_of(project), sidecar): "none"}
    assert list(known) == [sidecar.sha256]
    for entries in ([entry], [{**entry, "weight": 2.0}], [{**entry, "classes": [CLASSES[0]]}], [other], [entry, other]):
        with_more(project, *copy.deepcopy(entries))
        known[asked_sha256(params_of(project), sidecar)] = str(entries)
    assert len(known) == 6
    with_more(project, {**entry, "weights": "elsewhere/more.pt"})
    assert asked_sha256(params_of(project), sidecar) in known, "where the file lies does not count"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root, e: (root / "more.pt").unlink(), r"more\.pt: no such weight file"),
        (lambda root, e: e.update(weights_sha256="0" * 64), r"more\.pt: sha256 is .*, pinned is 0000"),
        (lambda root, e: e.update(more(root, classes=["cat", "dog"])), r"more_teachers: more\.pt: is to answer for "),
        (lambda root, e: e.update(classes=["cat"]), r"more_teachers: classes names \['cat'\], which the data does not"),
    ],
)
def test_a_further_teacher_that_cannot_be_used_is_named(project, change, message):
    entry = more(project)
    change(project, entry)
    with_more(project, entry)
    with pytest.raises(ValueError, match=message):
        cache_logits.main()
    assert not (project / "metrics/cache.json").exists()


def test_a_specialist_needs_only_know_its_own_class(project):
    with_more(project, more(project, classes=[CLASSES[1]]) | {"classes": [CLASSES[1]]})
    cache_logits.main()
    assert read_json(project / "metrics/cache.json")["views"] == 16
