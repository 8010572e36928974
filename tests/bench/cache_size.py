"""The teacher cache: bytes a view, memory of writing and reading, stored against live, drawing against reading.

``RETORT_DEEPPCB=… python tests/bench/cache_size.py`` writes ``tests/bench/results/cache.json``; it needs the teacher
that ``tests/bench/distill.py`` trains. Without them it measures the memory alone. ``--memory write 1024 FOLDER`` is one
measurement of memory, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import distill_setting as setting
import numpy as np

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "tests/bench/results/cache.json"
SIDES_PX = (320, 640)
PICTURES = 40  # of DeepPCB; each gives a mosaic and a closing view
BAR_BYTES = 32_000
SCALES, MADE_UP_PICTURES, SHARD_VIEWS = (1, 4, 16), 64, 64
ROUNDS = 5
# What a cache may hold beside the answers of the head.
CONTENTS = {
    "answers": {"attention": False, "pooled": False, "max_vectors": 0, "pixels": False},
    "answers, attention": {"attention": True, "pooled": False, "max_vectors": 0, "pixels": False},
    "answers, attention, vectors": {"attention": True, "pooled": False, "max_vectors": 48, "pixels": False},
    "answers, attention, pixels": {"attention": True, "pooled": False, "max_vectors": 0, "pixels": True},
    "the default": {"attention": True, "pooled": False, "max_vectors": 48, "pixels": True},
    "everything": {"attention": True, "pooled": True, "max_vectors": 48, "pixels": True},
}


def main() -> None:
    """Measure all, or the memory of one process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", nargs=3, metavar=("KIND", "PICTURES", "FOLDER"))
    options = parser.parse_args()
    if options.memory:
        kind, pictures, folder = options.memory
        print(json.dumps(memory_of(kind, int(pictures), Path(folder))))
        return
    result: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "memory": memory()}
    if "RETORT_DEEPPCB" in os.environ and (setting.SCALE.scratch / "teacher/sidecar.json").exists():
        result |= {f"deeppcb_{side}px": on_deeppcb(side) for side in SIDES_PX}
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    else:
        print(f"no RETORT_DEEPPCB, or no teacher of tests/bench/distill.py: memory only; {RESULT.name} stays as it is")
    print(json.dumps(result, indent=2))


def on_deeppcb(side_px: int) -> dict[str, Any]:
    """Sizes, errors and times of a cache of real boards, with the benchmark's trained teacher."""
    from kd_steps.adapters.cache.contents import cache_contents

    with tempfile.TemporaryDirectory() as name:
        caches = {kind: filled(side_px, content, Path(name) / kind) for kind, content in CONTENTS.items()}
        kinds = {kind: cache_contents(Path(name) / kind) for kind in CONTENTS}
        whole = kinds["everything"]
        answers = kinds["answers, attention, vectors"].bytes / whole.views
        return {
            "views": whole.views,
            "classes": len(setting.classes()),
            "anchors": {"mean": round(whole.anchors_mean, 1), "max": whole.anchors_max},
            "bytes_per_view": {kind: round(found.bytes / found.views) for kind, found in kinds.items()},
            "bytes_per_view_by_column": {n: round(size / whole.views, 1) for n, size in whole.column_bytes.items()},
            "bar_bytes": BAR_BYTES,
            "bar_met": answers <= BAR_BYTES,
            "largest_errors": errors(side_px, *caches["everything"]),
            "seconds_drawn_over_kept": drawn_over_kept(caches),
            "seconds_threads_over_processes": threads_over_processes(side_px, caches["answers, attention"][1]),
        }


def parameters(side_px: int, content: dict[str, Any]) -> Any:
    """The benchmark's parameters at another size, for one mosaic and one closing view a picture."""
    params = setting.parameters(0, 2)
    cache = params.cache_logits.model_copy(update={**content, "views": 1, "closing_views": 1})
    distill = params.distill.changed(close_mosaic_fraction=0.5)
    preprocessing = params.preprocessing.model_copy(update={"imgsz_px": side_px})
    return params.model_copy(update={"cache_logits": cache, "distill": distill, "preprocessing": preprocessing})


def filled(side_px: int, content: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """A cache written as the stage writes it, and the views of its pictures."""
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.yolo.teach.answering import view_source
    from kd_steps.jobs.cache_filling import fill
    from kd_steps.jobs.cache_setting import cache_header, distillation_plan

    params, (sidecar, model) = parameters(side_px, content), setting.teacher()
    pictures, plan = setting.pictures("train")[:PICTURES], distillation_plan(params)
    header = cache_header(params, plan, sidecar, model, "DeepPCB")
    keys, _ = fill(params, folder, header, model, pictures, plan)
    views = view_source(params, pictures, plan, header.augmentation_digest)
    views.teacher = TeacherCache(folder, header, keys)
    return views.teacher, views


def errors(side_px: int, cache: Any, views: Any) -> dict[str, Any]:
    """Largest errors of all stored targets against the teacher's answer now, to one view at a time."""
    import torch

    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.core.cache.answer_errors import largest, target_errors

    _, model = setting.teacher()
    content = {**CONTENTS["everything"], "score_threshold": 0.0, "max_anchors": sum(cache.header.cells)}
    live, found = frozen(parameters(side_px, content), model), []
    limits = cache.header.score_threshold, cache.header.max_anchors
    for key in cache.keys:
        pixels, _ = cache.sample(key.image, key.view)
        (now,) = live.targets(torch.from_numpy(pixels.copy())[None], [0])
        found.append(target_errors(cache.targets(key.image, key.view), now, side_px, *limits))
    return {"precision": cache.precision(0), **asdict(largest(found))}


def drawn_over_kept(caches: dict[str, Any]) -> dict[str, Any]:
    """Seconds of what a student waits for: views drawn, each checked and with its answer, over the same views kept."""
    drawn, kept = caches["answers, attention"][1], caches["answers, attention, pixels"][1]

    def seconds(views: Any) -> float:
        started = time.perf_counter()
        for index in range(len(views.images)):
            for view in views.plan.all_views():
                views.view(index, view)
        return time.perf_counter() - started

    return in_rounds(lambda: seconds(drawn), lambda: seconds(kept))


def threads_over_processes(side_px: int, views: Any) -> dict[str, Any]:
    """Seconds to answer views in one process with a thread a core, over a process a core with one thread each."""
    import torch

    from kd_steps.adapters.yolo.teach.answer_stream import answered_views
    from kd_steps.adapters.yolo.teach.answering import frozen

    params, (_, model) = parameters(side_px, CONTENTS["answers, attention"]), setting.teacher()
    views.teacher, teacher, batch = None, frozen(params, model), params.cache_logits.batch
    wanted = [(index, view) for index in range(len(views.images)) for view in views.plan.all_views()]
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    def threads() -> float:
        started = time.perf_counter()
        for start in range(0, len(wanted), batch):
            samples = [views.view(index, view) for index, view in wanted[start : start + batch]]
            teacher.targets(torch.stack([sample["img"] for sample in samples]), [0] * len(samples))
        return time.perf_counter() - started

    def processes() -> float:
        started = time.perf_counter()
        for _ in answered_views(teacher, views, wanted, batch):
            pass
        return time.perf_counter() - started

    return in_rounds(threads, processes)


def in_rounds(a: Callable[[], float], b: Callable[[], float]) -> dict[str, Any]:
    """Ratio of two durations that are measured in turn, so that a busy machine slows both."""
    rounds = [round(a() / b(), 2) for _ in range(ROUNDS)]
    return {"median": statistics.median(rounds), "rounds": rounds}


def memory() -> dict[str, Any]:
    """Peak anonymous memory of writing and reading, each in a process of its own, for 1×, 4× and 16× pictures."""
    found: dict[str, Any] = {"pictures": [scale * MADE_UP_PICTURES for scale in SCALES]}
    with tempfile.TemporaryDirectory() as name:
        for kind in ("write", "read"):
            peaks = [one_process(kind, scale * MADE_UP_PICTURES, Path(name) / str(scale)) for scale in SCALES]
            above = [peak["above_start_mib"] for peak in peaks]
            found[kind] = {
                "peak_mib": [peak["peak_mib"] for peak in peaks],
                "above_start_mib": above,
                "cache_mib": [peak["cache_mib"] for peak in peaks],
                "above_start_16x_over_1x": round(above[-1] / above[0], 2),
            }
    return found


def one_process(kind: str, pictures: int, folder: Path) -> dict[str, float]:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--memory", kind, str(pictures), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def memory_of(kind: str, pictures: int, folder: Path) -> dict[str, float]:
    """Write a cache of made-up answers, or read all of it in random order; how far anonymous memory rose.

    Pages of the mapped shards are no memory of the process: the kernel takes them back when it needs them.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from cache_fixture import FULL, made_up_view

    from kd_steps.adapters.cache.folder import open_for_writing
    from kd_steps.adapters.cache.store import TeacherCache, write_shards
    from kd_steps.core.cache.keys import CacheKeys
    from kd_steps.core.detect.views import View

    header = replace(
        FULL, imgsz_px=640, classes=tuple("abcdef"), cells=(6400, 1600, 400), neck_channels=(128, 256, 512)
    )
    keys = CacheKeys([f"{number:064x}" for number in range(pictures)], [View(False, 0)])

    def answers(part: Sequence[Any]) -> Iterator[Any]:
        for key in part:
            yield made_up_view(np.random.default_rng(int(key.image, 16)), header, 240)

    def write() -> None:
        open_for_writing(folder, header)
        write_shards(folder, header, keys, SHARD_VIEWS, "fp32", answers, lambda count, fresh: None)

    def read() -> None:
        cache = TeacherCache(folder, header, keys)
        for place in np.random.default_rng(0).permutation(len(keys)).tolist():
            cache.targets(keys[place].image, keys[place].view)
            cache.sample(keys[place].image, keys[place].view)

    next(answers(keys[:1]))  # what the libraries take once
    start, peak = anonymous_mib(), watched(write if kind == "write" else read)
    size = sum(path.stat().st_size for path in folder.glob("*.arrow")) / 2**20
    rise = {"peak_mib": peak, "above_start_mib": peak - start, "cache_mib": size}
    return {name: round(value, 1) for name, value in rise.items()}


def watched(work: Any) -> float:
    """Peak anonymous memory while ``work`` runs, MiB."""
    peak, done = anonymous_mib(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return peak


def anonymous_mib() -> float:
    """Anonymous memory of this process now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from kd_steps.stage_entry import set_environment

    set_environment(ROOT)
    main()
