"""The teacher cache end to end: what a student reads is what a live teacher says, whoever draws, answers and reads."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from training_fixture import decided_model, params_of, tree_digest, write_model, write_training_project

from kd_steps.adapters.cache.store import TeacherCache
from kd_steps.adapters.data.reader import load_prepared
from kd_steps.core.cache.answer_errors import largest, target_errors
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.views import ViewPlan, pixel_hash
from kd_steps.jobs.cache_filling import fill

pytestmark = pytest.mark.slow

SIDE_PX = 64
CLASS_PROBABILITY, BOX_SIDE_PX = 1e-3, 0.05  # what the cache promises
EVERYTHING = {"attention": True, "pooled": True, "max_vectors": 20, "pixels": True}
ARCHITECTURES = {"11": None, "26": "yolo26n.yaml"}  # 16 bins and one branch; no bins and two branches


@pytest.fixture(scope="module")
def models():
    return {name: decided_model(architecture=architecture) for name, architecture in ARCHITECTURES.items()}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a teacher and without a cache; read-only."""
    root = write_training_project(tmp_path_factory.mktemp("exact"))
    write_model(root, "teacher")
    return root


def parameters(project, **changes):
    """The project's parameters; ``changes`` are of ``cache_logits``, but for the seed."""
    params = params_of(project)
    seed = changes.pop("seed", params.seed)
    section = params.cache_logits.model_copy(update={**EVERYTHING, **changes})
    return params.model_copy(update={"cache_logits": section, "seed": seed})


def pictures(folder, random, count):
    """Pictures of any size, with any objects; now and then one without, or without labels."""
    found = []
    for number in range(count):
        width, height = (int(side) for side in random.integers(20, 140, 2))
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), random.integers(0, 256, (height, width, 3)).astype(np.uint8))
        objects = int(random.integers(0, 4))
        sizes = random.uniform(0.1, 0.6, (objects, 2))
        centres = random.uniform(sizes / 2, 1 - sizes / 2)
        found.append(
            LabelledImage(
                path,
                f"{int(random.integers(2**62)):064x}",
                (width, height),
                random.integers(0, 2, objects),
                np.hstack([centres, sizes]).astype(np.float32),
                labelled=bool(random.random() < 0.8),
            )
        )
    return sorted(found, key=lambda image: image.digest)


def filled(params, folder, model, images, plan):
    """A cache, written as the stage writes it, and its views with and without it."""
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.sidecar import Sidecar
    from kd_steps.adapters.yolo.teach.answering import view_source
    from kd_steps.jobs.cache_setting import cache_header

    contract = current_contract(params.preprocessing, params.augmentation)
    sidecar = Sidecar("teacher", "m", ("a", "b"), (), "t" * 64, 1, contract, "d" * 64, {}, {})
    header = cache_header(params, plan, sidecar, model, "d" * 64)
    keys, _ = fill(params, folder, header, model, images, plan)
    cache = TeacherCache(folder, header, keys)
    drawn, kept = (view_source(params, images, plan, header.augmentation_digest) for _ in range(2))
    kept.teacher = cache
    return cache, drawn, kept


def errors_against_live(params, model, cache, drawn, plan):
    """The largest errors of all stored targets against a teacher that answers the drawn views now, one by one."""
    from kd_steps.adapters.yolo.teach.answering import frozen

    everything = params.cache_logits.model_copy(update={"score_threshold": 0.0, "max_anchors": sum(cache.header.cells)})
    live, found = frozen(params.model_copy(update={"cache_logits": everything}), model), []
    for index, image in enumerate(drawn.images):
        for view in plan.all_views():
            sample = drawn.view(index, view)
            (now,) = live.targets(sample["img"][None], [pixel_hash(sample["img"].numpy())])
            stored = cache.targets(image.digest, view)
            assert stored.pixel_hash == now.pixel_hash
            limits = cache.header.score_threshold, cache.header.max_anchors
            found.append(target_errors(stored, now, SIDE_PX, *limits))
    return largest(found)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 4),
    views=st.integers(1, 3),
    closing=st.integers(0, 2),
    shard_views=st.integers(4, 9),
    batch=st.integers(1, 5),
    family=st.sampled_from(sorted(ARCHITECTURES)),
    pixels=st.booleans(),
)
def test_any_view_of_any_picture(
    project, models, tmp_path_factory, seed, count, views, closing, shard_views, batch, family, pixels
):
    folder = tmp_path_factory.mktemp("any")
    params = parameters(project, seed=seed % 1000, shard_views=shard_views, batch=batch, pixels=pixels)
    plan = ViewPlan(views + closing, closing, views, closing)
    images = pictures(folder, np.random.default_rng(seed), count)
    cache, drawn, kept = filled(params, folder / "cache", models[family], images, plan)
    for epoch in range(plan.epochs):
        for index in range(count):
            assert content(kept[epoch, index], teacher=False) == content(drawn[epoch, index], teacher=False)
    found = errors_against_live(params, models[family], cache, drawn, plan)
    assert found.class_probability <= CLASS_PROBABILITY
    assert found.box_side_px <= BOX_SIDE_PX
    assert found.kept_score <= CLASS_PROBABILITY
    assert found.attention <= 0.51 / 255 + 1e-3
    assert found.pooled <= 2e-3
    assert found.vectors <= 0.501 / 127 + 1e-3


def content(sample, teacher=True):
    """All that training reads of a sample, as bytes."""
    tensors = [sample[name] for name in ("img", "cls", "bboxes", "batch_idx")]
    found = [sample["im_file"], sample["labelled"], *(t.numpy().tobytes() for t in tensors)]
    if teacher:
        targets = sample["teacher"]
        arrays = [targets.one_to_many.anchors, targets.one_to_many.class_logits, targets.one_to_many.box_bins]
        if targets.one_to_one is not None:
            arrays += [targets.one_to_one.anchors, targets.one_to_one.class_logits, targets.one_to_one.box_bins]
        arrays += [targets.neck.attention, targets.neck.pooled, targets.neck.rows, *targets.neck.vectors]
        found += [targets.pixel_hash, *(np.ascontiguousarray(array).tobytes() for array in arrays)]
    return found


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 6),
    processes=st.sampled_from([2, 3]),
    workers=st.sampled_from([0, 2, 4]),
    degrees=st.floats(0, 30),
    perspective=st.floats(0, 0.001),
    pixels=st.booleans(),
)
def test_any_number_of_processes_and_workers_gives_the_same_bytes(
    project, models, tmp_path_factory, seed, count, processes, workers, degrees, perspective, pixels
):
    folder, plan = tmp_path_factory.mktemp("processes"), ViewPlan(2, 1, 1, 1)
    images = pictures(folder, np.random.default_rng(seed), count)
    kept = {}
    for number in (1, processes):
        params = parameters(project, seed=seed % 1000, processes=number, shard_views=4, batch=2, pixels=pixels)
        gains = params.augmentation.model_copy(update={"degrees": degrees, "perspective": perspective})
        params = params.model_copy(update={"augmentation": gains})
        _, drawn, kept[number] = filled(params, folder / str(number), models["11"], images, plan)
    assert tree_digest(folder / "1") == tree_digest(folder / str(processes))
    places = [(epoch, index) for epoch in range(2) for index in range(count)]
    loader = DataLoader(kept[processes], batch_size=None, sampler=places, num_workers=workers)
    assert [content(sample) for sample in loader] == [content(kept[1][place]) for place in places]
    assert [content(kept[1][p], teacher=False) for p in places] == [content(drawn[p], teacher=False) for p in places]


@pytest.mark.parametrize(("family", "pixels"), [("11", True), ("26", False)])
def test_number_of_loader_workers_does_not_count(project, models, tmp_path, family, pixels):
    plan = ViewPlan(epochs=3, closing_epochs=1, views=2, closing_views=1)
    images = load_prepared(project / "data/prepared").split("train")
    _, _, kept = filled(parameters(project, pixels=pixels), tmp_path, models[family], images, plan)
    places = [(epoch, index) for epoch in range(3) for index in torch.randperm(8).tolist()]
    expected = [content(kept[place]) for place in places]
    assert len({str(found) for found in expected}) == len(places)
    for workers in (0, 2, 4):
        loader = DataLoader(kept, batch_size=None, sampler=places, num_workers=workers)
        assert [content(sample) for sample in loader] == expected, f"{workers} workers"


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_number_of_writing_processes_and_what_was_written_first_do_not_count(project, models, tmp_path, family):
    """The files are the same to the byte, also where a second run adds what the first one did not finish."""
    plan = ViewPlan(epochs=2, closing_epochs=1, views=1, closing_views=1)
    images = load_prepared(project / "data/prepared").split("train")
    digests = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        params = parameters(project, processes=processes)
        filled(params, folder, models[family], images, plan)
        if processes == 2:
            for path in folder.glob("shard-*-000-000.*"):
                path.unlink()
            filled(params, folder, models[family], images, plan)
        digests.append(tree_digest(folder))
    assert digests[0] == digests[1]
    assert len(digests[0]) == 9


def test_stored_errors_are_not_zero_by_construction(project, models, tmp_path):
    """The comparison sees another teacher and other pixels."""
    plan = ViewPlan(epochs=1, closing_epochs=0, views=1, closing_views=0)
    params = parameters(project)
    images = load_prepared(project / "data/prepared").split("train")
    cache, drawn, _ = filled(params, tmp_path, models["11"], images, plan)
    other = errors_against_live(params, decided_model(seed=2), cache, drawn, plan)
    assert other.class_probability > 0.1
    assert other.box_side_px > 1
    assert errors_against_live(params, models["11"], cache, drawn, plan).class_probability < 1e-3
    drawn.seed = 1
    with pytest.raises(AssertionError):
        errors_against_live(params, models["11"], cache, drawn, plan)
