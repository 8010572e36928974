"""How the default terms and schedule were chosen: candidates on a validation cut of DeepPCB's training list.

``RETORT_DEEPPCB=… python tests/bench/distill_tuning.py [--seed N] [NAME …]`` trains the candidates that have no result
yet and writes ``tests/bench/results/distill_tuning.json``. A fifth of the training list is set aside; the test list
takes no part. One seed orders candidates that are far apart, no more.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import distill_setting as setting

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "tests/bench/results/distill_tuning.json"
EPOCHS, VALIDATION_PICTURES = 20, 200


def phases(soft: float, hard: float, temperature: float) -> dict[str, Any]:
    """The same weights and temperature from the first epoch to the last."""
    shares = {"warm_up": 0.2, "distillation": 0.6, "convergence": 0.2}
    one = {"soft_weight": soft, "hard_weight": hard, "temperature": temperature}
    return {name: {"fraction": share, **one} for name, share in shares.items()}


def three_phases() -> dict[str, Any]:
    """The weights of the three-phase schedule, at T = 1."""
    shares, soft = {"warm_up": 0.2, "distillation": 0.6, "convergence": 0.2}, (0.3, 0.7, 0.5)
    return {
        name: {"fraction": share, "soft_weight": weight, "hard_weight": 1 - weight, "temperature": 1.0}
        for (name, share), weight in zip(shares.items(), soft, strict=True)
    }


def changing(*soft_weights: float) -> dict[str, Any]:
    """Three phases of 20, 40 and 40 % with a soft weight each; the labels weigh the same in all."""
    shares = {"warm_up": 0.2, "distillation": 0.4, "convergence": 0.4}
    return {
        name: {"fraction": share, "soft_weight": soft, "hard_weight": 0.5, "temperature": 1.0}
        for (name, share), soft in zip(shares.items(), soft_weights, strict=True)
    }


EVEN = phases(0.5, 0.5, 1.0)
HEAVY_FIRST = changing(4.0, 1.0, 0.25)  # a fresh student's label loss has twenty times the gradient of a teacher's term
LABELS_AT_LAST = changing(0.5, 0.5, 0.0)


def at(nominal_batch: int, weights: tuple[float, float, float], soft: Any = EVEN, **more: Any) -> dict[str, Any]:
    """One candidate: pictures an update; weights of the class, box and attention term; their schedule; what else."""
    names = ("class_weight", "box_weight", "attention_weight")
    # At first, the gradients of both losses together were clipped at 10; the clip is each loss's own now.
    clip = {"clip_norm": 5.0 if any(weights) else 10.0}
    given = {"gamma_epochs": 0.0, "lr_guard_ratio": 0.0, "nominal_batch": nominal_batch, **clip, **more}
    return {**dict(zip(names, weights, strict=True)), "phases": soft, **given}


GUARD = {"lr_guard_ratio": 3.0}  # was the default
CANDIDATES: dict[str, dict[str, Any]] = {
    "plain": at(64, (0.0, 0.0, 0.0)),
    "even, class 2, box 2, attention 2": at(64, (2.0, 2.0, 2.0), **GUARD),
    "even, class 2, box 2, attention 2, l2 6": at(64, (2.0, 2.0, 2.0), feature_weight=6.0, **GUARD),
    "even, class 4, box 4, attention 4": at(64, (4.0, 4.0, 4.0), **GUARD),
    "three phases at T 1, class 4, box 4, attention 4": at(64, (4.0, 4.0, 4.0), three_phases(), **GUARD),
    "even, class 8, box 8, attention 4": at(64, (8.0, 8.0, 4.0), **GUARD),
    "even, class 8, box 8, attention 8, no guard": at(64, (8.0, 8.0, 8.0)),
    "even, class 16, box 16, attention 16, no guard": at(64, (16.0, 16.0, 16.0)),
    "plain, nb 16": at(16, (0.0, 0.0, 0.0)),
    "even, class 8, box 8, attention 8, no guard, nb 16": at(16, (8.0, 8.0, 8.0)),
    "even, class 2, box 2, attention 2, no guard, nb 16": at(16, (2.0, 2.0, 2.0)),
    "nb 16: class 1, box 8, attention 0": at(16, (1.0, 8.0, 0.0)),
    "nb 16: class 1, box 16, attention 0.3": at(16, (1.0, 16.0, 0.3)),
    "nb 16: class 1, box 0, attention 0": at(16, (1.0, 0.0, 0.0)),
    "nb 16: class 1, box 4, attention 0.5, heavy first": at(16, (1.0, 4.0, 0.5), HEAVY_FIRST),
    "nb 16: class 2, box 4, attention 2, labels alone at last": at(16, (2.0, 4.0, 2.0), LABELS_AT_LAST),
    # From here on the class term has the background term beside it.
    "nb 16: class 1, box 8, attention 0, background term": at(16, (1.0, 8.0, 0.0)),
    "nb 16: class 1, box 8, attention 0, clip 20": at(16, (1.0, 8.0, 0.0), clip_norm=10.0),
    "plain, nb 16, clip 20": at(16, (0.0, 0.0, 0.0), clip_norm=20.0),
    "nb 16: class 1, box 8, attention 0, labels alone at last": at(16, (1.0, 8.0, 0.0), LABELS_AT_LAST),
    "nb 16: class 1, box 8, attention 0, clip 20, average ramps in 200": at(
        16, (1.0, 8.0, 0.0), clip_norm=10.0, ema_ramp_updates=200.0
    ),
    "plain, nb 16, average ramps in 200": at(16, (0.0, 0.0, 0.0), ema_ramp_updates=200.0),
    # Ultralytics' own distillation weighs each of three levels by 6; a weight of 18 with shares of a third is as much.
    "nb 16: class 1, box 8, attention 0, l2 18, clip 20": at(16, (1.0, 8.0, 0.0), clip_norm=10.0, feature_weight=18.0),
    "nb 16: class 0, box 0, attention 0, l2 18, clip 20": at(16, (0.0, 0.0, 0.0), clip_norm=10.0, feature_weight=18.0),
    "nb 16: class 1, box 8, attention 0, l2 6, clip 20": at(16, (1.0, 8.0, 0.0), clip_norm=10.0, feature_weight=6.0),
    # From here on closing views are letterboxed pictures.
    "plain, nb 16, letterboxed closing": at(16, (0.0, 0.0, 0.0)),
    "nb 16: class 1, box 8, letterboxed closing": at(16, (1.0, 8.0, 0.0), clip_norm=10.0),
    "nb 16: class 1, box 8, l2 18, letterboxed closing": at(16, (1.0, 8.0, 0.0), clip_norm=10.0, feature_weight=18.0),
    "nb 16: class 1, box 8, l2 54, letterboxed closing": at(16, (1.0, 8.0, 0.0), clip_norm=10.0, feature_weight=54.0),
    "nb 16: class 1, box 8, l2 150, letterboxed closing": at(16, (1.0, 8.0, 0.0), clip_norm=10.0, feature_weight=150.0),
    "nb 16: l2 18, letterboxed closing": at(16, (0.0, 0.0, 0.0), clip_norm=10.0, feature_weight=18.0),
    "nb 16: class 0.5, box 8, attention 0": at(16, (0.5, 8.0, 0.0)),
    "nb 16: class 1, box 2 decoded, attention 0": at(16, (1.0, 2.0, 0.0), box_kind="decoded"),
}


def cut() -> tuple[list[Any], list[Any]]:
    """The training list without a fifth, and that fifth; in the order of their digests, which is as good as random.

    Boards are on both sides, as the authors' training and test lists have them.
    """
    pictures = setting.pictures("train")
    return pictures[VALIDATION_PICTURES:], pictures[:VALIDATION_PICTURES]


def score(changes: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one candidate and measure it on the validation cut."""
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.yolo.models import build_model
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan, training_run
    from kd_steps.adapters.yolo.train.training import finish, train
    from kd_steps.jobs.cache_filling import fill
    from kd_steps.jobs.cache_setting import cache_header, distillation_plan
    from kd_steps.jobs.student_training import distillation_of

    params = setting.parameters(seed, EPOCHS, nominal_batch=64)  # the first candidates were tried at it
    everything = {"attention": True, "pooled": True, "max_vectors": 64, "pixels": True}
    cache_content = params.cache_logits.model_copy(update=everything)
    section = params.distill.changed(**changes)
    params = params.model_copy(update={"cache_logits": cache_content, "distill": section})
    (sidecar, teacher), (pictures, held_out) = setting.teacher(), cut()
    plan, distillation = fresh_views_plan(section), None
    if any(changes[f"{term}_weight"] for term in ("class", "box", "attention")) or changes.get("feature_weight"):
        plan = distillation_plan(params)
        header = cache_header(params, plan, sidecar, teacher, "DeepPCB without the validation cut")
        keys, _ = fill(params, setting.SCALE.scratch / f"tuning-cache-{seed}", header, teacher, pictures, plan)
        cache = TeacherCache(setting.SCALE.scratch / f"tuning-cache-{seed}", header, keys)
        distillation = distillation_of(params, teacher, cached=cache)
    folder = setting.SCALE.scratch / "tuning"
    run = training_run(
        params,
        section,
        build_model(setting.STUDENT_MODEL, setting.classes(), seed),
        setting.classes(),
        pictures,
        held_out,
        plan,
        sidecar.contract.augmentation_digest,
        folder,
        distillation,
        keep="last",
    )
    measured = finish(run, train(run), folder / "weights.pt")
    return {name: measured[name] for name in ("val_map50_95", "val_map50", "seconds")}


def main() -> None:
    """Train what has no result yet."""
    import shutil

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of weights, views and order")
    parser.add_argument("names", nargs="*", metavar="NAME", help="candidates; all where none is named")
    asked = parser.parse_args()
    done = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for candidate in asked.names or CANDIDATES:
        name = f"{candidate}, seed {asked.seed}" if asked.seed else candidate
        if name in done:
            continue
        shutil.rmtree(setting.SCALE.scratch / "tuning", ignore_errors=True)
        done[name] = {"changes": CANDIDATES[candidate], **score(CANDIDATES[candidate], asked.seed)}
        RESULT.write_text(json.dumps(done, indent=1) + "\n")
        print(f"{name}: {done[name]['val_map50_95']:.4f}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from kd_steps.stage_entry import set_environment

    set_environment(ROOT)
    main()
