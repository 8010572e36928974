"""The numbers that a tiny run of each part of the recipe gives, and the command that writes their references.

`python tests/support/recipe_numbers.py` writes them all. fp32, one thread, a network of some hundred thousand weights,
eight pictures of 64 px, a step or two an epoch, short ones, so that the last bits of a processor stay small. Every knob
is set here: what ``params.yaml`` says has no part.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
REFERENCES = REPOSITORY / "tests/recipe_numbers.json"
STEPS = {
    **{"epochs": 2, "batch": 4, "nominal_batch": 4, "optimizer": "SGD", "lr0": 0.02, "lrf": 0.1, "momentum": 0.9},
    **{"weight_decay": 0.001, "warmup_epochs": 0, "close_mosaic_fraction": 0.5, "val_interval_epochs": 2},
    **{"freeze_layers": 0, "freeze_blocks": 0, "head_only_epochs": 0},
    **{"clip_norm": 0.1, "ema_decay": 0.9, "ema_ramp_updates": 2.0},
}
SHARED = ("class", "box", "attention", "channel", "feature", "relational")
KNOBS = {
    "seed": 0,
    "augmentation": {
        **{"mosaic": 0.5, "scale": 0.5, "translate": 0.1, "degrees": 3.0, "shear": 0.0, "perspective": 0.0},
        **{"fliplr": 0.5, "flipud": 0.0, "hsv_h": 0.015, "hsv_s": 0.5, "hsv_v": 0.3},
    },
    "preprocessing": {"imgsz_px": 64, "letterbox_fill": 114},
    "train_teacher": {**STEPS, "weights": None},
    "cache_logits": {
        **{"views": 1, "closing_views": 1, "score_threshold": 0.1, "max_anchors": 60, "attention": True},
        **{"pooled": True, "max_vectors": 20, "pixels": True, "batch": 4, "processes": 1, "more_teachers": []},
    },
    "distill": {
        **{**STEPS, "calibrate_batches": 0, "gamma_epochs": 2, "lr_guard_ratio": 0.01, "lr_guard_factor": 0.5},
        **{"lr_guard_floor": 0.1, "calibrate_share": dict.fromkeys(SHARED, 0.1)},
        **{"class_weight": 1.0, "box_weight": 8.0, "box_kind": "bins", "box_temperature": 1.5, "feature_kind": "l2"},
        **{"attention_weight": 1.0, "channel_weight": 1.0, "feature_weight": 18.0, "feature_temperature": 1.0},
        **{"feature_levels": [0.4, 0.3, 0.3], "relational_weight": 1.0, "dynamic_strength": 1.0},
        "phases": {
            "warm_up": {"fraction": 0.5, "soft_weight": 0.4, "hard_weight": 0.6, "temperature": 2.0},
            "distillation": {"fraction": 0.5, "soft_weight": 0.7, "hard_weight": 0.3, "temperature": 3.0},
            "convergence": {"fraction": 0.0, "soft_weight": 0.5, "hard_weight": 0.5, "temperature": 1.0},
        },
    },
    "few_shot": {
        **{"epochs": 1, "batch": 4, "lr0": 0.02, "close_mosaic_fraction": 0.0, "new_part_share": 0.5},
        **{"iterations_per_epoch": 1, "freeze_layers": 1, "base_distillation_weight": 20.0},
    },
}
OTHER_TERMS = {"box_kind": "decoded", "feature_kind": "pkd", "calibrate_batches": 1, "epochs": 1}


def numbers(code, part):
    """The numbers of a part of the recipe, as the ``kd_steps`` in the folder ``code`` computes them: name → number."""
    sys.path[:0] = [str(code), str(Path(__file__).parent)]
    from training_fixture import write_model, write_new_parts, write_training_project

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_training_project(root, **KNOBS)
        write_model(root, "student" if part == "few_shot" else "teacher", seed=3)
        write_new_parts(root, ["bridge", "missing", "tombstone"])
        os.chdir(root)
        try:
            return {name: float(value) for name, value in PROBES[part](root).items()}
        finally:
            os.chdir(code)


def _views(root):
    """The order of an epoch, and pixels and boxes of its views."""
    import numpy as np
    from training_fixture import params_of

    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.yolo.teach.answering import view_source
    from kd_steps.adapters.yolo.train.loading import EpochSampler
    from kd_steps.core.detect.views import plan_views

    images, plan, ramp = load_prepared().split("train"), plan_views(9, 0.35, 6, 2), np.linspace(0, 1, 64)
    drawn, found = view_source(params_of(root), images, plan, "a" * 64), Counter()
    for epoch in range(9):
        view = plan.at(epoch)
        found[f"epoch {epoch} closes, and shows"] = 100 * view.closing + view.number
    for place, (_, index) in enumerate(EpochSampler(len(images), 0)):
        found["order"] += place * index
    for view in plan.all_views():
        for index in range(len(images)):
            sample = drawn.view(index, view)
            pixels, boxes = sample["img"].numpy().astype(np.float64), sample["bboxes"].numpy().astype(np.float64)
            found[f"{view}: mean"] += pixels.mean()
            found[f"{view}: to the right"] += (pixels * ramp).mean()
            found[f"{view}: downwards"] += (pixels * ramp[:, None]).mean()
            found[f"{view}: boxes"] += len(boxes)
            found[f"{view}: sides of boxes"] += boxes.sum()
    return found


def _training(root):
    from training_fixture import params_of

    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.artifacts import paths
    from kd_steps.train_teacher import ready

    params = params_of(root)
    contract = current_contract(params.preprocessing, params.augmentation)
    return _fitted(ready(params, load_prepared(), contract), root / paths.TEACHER)


def _answers(root):
    """What comes out of the cache again, and what packing rounds off."""
    import numpy as np
    from training_fixture import params_of

    from kd_steps import cache_logits
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.core.cache.quantise import pack_bins, pack_vectors, unpack_bins, unpack_vectors
    from kd_steps.jobs.cache_setting import cache_setting

    cache_logits.main()
    made_of = cache_setting(params_of(root), load_prepared(), Path("models/teacher"))
    cache, found = TeacherCache(Path("data/cache"), made_of.header, made_of.keys), Counter()
    for key in made_of.keys:
        targets = cache.targets(key.image, key.view)
        many, neck = targets.one_to_many, targets.neck
        for name, value in (
            ("anchors", many.anchors),
            ("scores", 1 / (1 + np.exp(-np.asarray(many.class_logits, np.float64)))),
            ("bins", many.box_bins),
            ("ceiling", many.ceiling),
            ("attention", neck.attention),
            ("pooled", neck.pooled),
            *((f"vectors of level {level}", values) for level, values in enumerate(neck.vectors)),
        ):
            found[name] += np.abs(np.asarray(value, np.float64)).sum()
    random = np.random.default_rng(0)
    bins, vectors = random.standard_normal((50, 4, 16)) * 3, random.standard_normal((50, 20))
    relative = bins - bins.max(axis=-1, keepdims=True)
    found["rounding of bins"] = np.abs(unpack_bins(pack_bins(bins), 50, 16) - relative).mean()
    found["rounding of vectors"] = np.abs(unpack_vectors(pack_vectors(vectors), 50, 20) - vectors).mean()
    return found


def _distillation(root):
    from training_fixture import write_params

    found = {f"first: {name}": number for name, number in _student(root, root / "first").items()}
    write_params(root, **{**KNOBS, "distill": {**KNOBS["distill"], **OTHER_TERMS}})
    return found | {f"other terms: {name}": number for name, number in _student(root, root / "other").items()}


def _student(root, folder):
    from training_fixture import params_of

    from kd_steps.adapters.data.reader import TrainingSet, load_prepared
    from kd_steps.adapters.yolo.teach.answering import frozen, trained
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan
    from kd_steps.jobs.student_training import Lesson, Taught, distillation_of, ready

    params, prepared = params_of(root), load_prepared()
    _, teacher = trained(params, Path("models/teacher"))
    taught = Taught(
        distillation_of(params, teacher, live=frozen(params, teacher).answer), fresh_views_plan(params.distill), {}
    )
    lesson = Lesson(TrainingSet(prepared.split("train"), prepared.digest), lambda _: taught, None, (), {}, ())
    return _fitted(ready(params, prepared, lesson, folder, "a" * 64), folder)


def _few_shot(root):
    from training_fixture import params_of

    from kd_steps.adapters.data.ledger import load_ledger
    from kd_steps.adapters.data.part_sets import read_part_sets
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.sidecar import read_sidecar
    from kd_steps.artifacts import paths
    from kd_steps.jobs.part_training import labelled_shots, ready

    params, prepared, student = params_of(root), load_prepared(), read_sidecar(paths.STUDENT)
    (part,) = read_part_sets(Path("data/new_parts"), load_ledger(params.product), "the ledger")
    classes = (*student.classes, "tombstone")
    shots = labelled_shots(part, classes)
    return _fitted(ready(params, prepared, student, classes, shots), root / paths.FEW_SHOT)


def _fitted(fitting, folder):
    """A training's losses and rates, and by thirds of the layers how far the average lags behind what is trained."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    fitting.fit()
    with (folder / "results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    logged = ("train/", "lr/")
    found = Counter(
        {f"epoch {row['epoch']}: {key}": float(row[key]) for row in rows for key in row if key.startswith(logged)}
    )
    state = torch.load(folder / "resume/state.pt", weights_only=True)
    norm, lags = 0.0, Counter()
    for name, average in state["average"].items():
        if average.is_floating_point():
            kind = "statistics" if ".running_" in name else f"third {int(name.split('.')[1]) // 8}"
            now = state["model"][name].double()
            norm += float(now.square().sum())
            lags[kind] += float((now - average.double()).square().sum())
    return found | {f"lag of {kind}": value**0.5 for kind, value in lags.items()} | {"norm of all": norm**0.5}


PROBES = {
    "views": _views,
    "training": _training,
    "answers": _answers,
    "distillation": _distillation,
    "few_shot": _few_shot,
}
PARTS = tuple(PROBES)


def numbers_of(jobs):
    """The numbers of several (folder with ``kd_steps``, part), each in a process of its own that forks from this one.

    This one has imported what is slow to import and none of ``kd_steps``.
    """
    import cv2  # noqa: F401
    import pandas  # noqa: F401
    import torch
    import ultralytics.models.yolo.detect

    torch.set_num_threads(1)  # a process with more of them may not fork
    ultralytics.nn.tasks.DetectionModel("yolo11n.yaml", verbose=False)  # some is imported only then
    found = []
    for code, part in jobs:
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
            found.append(process.submit(numbers, code, part).result())
    return found


def main(arguments):
    """With folders and parts, print their numbers; with none, write the references of every part."""
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as settings:
        os.environ.setdefault("YOLO_CONFIG_DIR", settings)
        jobs = list(zip(arguments[::2], arguments[1::2], strict=True)) or [(str(REPOSITORY), part) for part in PARTS]
        found = numbers_of(jobs)
    if arguments:
        print(json.dumps(found))  # noqa: T201
        return
    sys.path.insert(0, str(REPOSITORY))
    from kd_steps.core.recipe import RECIPE

    told = {part: {"recipe": RECIPE[part], "numbers": of_part} for part, of_part in zip(PARTS, found, strict=True)}
    REFERENCES.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
