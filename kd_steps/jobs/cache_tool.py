"""``python -m kd_steps.jobs.cache_tool verify`` and ``info``: is the teacher cache exact, and what is in it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_steps.stage_entry import set_environment

if TYPE_CHECKING:
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.yolo.teach.teacher import Teacher
    from kd_steps.adapters.yolo.views import ViewDataset
    from kd_steps.core.cache.answer_errors import AnswerErrors
    from kd_steps.core.cache.header import CacheHeader
    from kd_steps.core.cache.keys import ViewOfImage
    from kd_steps.params import Params

CACHE, MODELS = Path("data/cache"), Path("models")
LIMITS = {"class_probability": 1e-3, "box_side_px": 0.05, "kept_score": 1e-3}  # fields of AnswerErrors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 1 where the cache is not exact enough or cannot be used."""
    options = _parser().parse_args(arguments)
    set_environment(Path.cwd())
    try:
        with redirect_stdout(sys.stderr):  # of Ultralytics' own lines
            if options.command == "verify":
                report = verify(options.sample, options.seed, options.assistant)
            else:
                report = info(options.assistant)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    lines = verdict_lines(report) if options.command == "verify" else info_lines(report)
    sys.stdout.write((json.dumps(report, indent=2) if options.json else "\n".join(lines)) + "\n")
    return 0 if report.get("passed", True) else 1


def verify(sample: int, seed: int, assistant: str | None = None) -> dict[str, Any]:
    """Hold every shard to its sha256, then let the teacher answer some stored views again.

    Views that were answered in another number format than this machine's, as on a GPU, are held to their bytes alone.

    Args:
        sample: how many views; all where there are fewer.
        seed: of their choice.
        assistant: whose own cache is meant, not the student's.

    Returns:
        The largest errors with their limits, the views whose pixels differ, and ``passed``.

    Raises:
        ValueError: there is no cache, it was made from something else, is not finished, or has damaged shards, each of
            which is named; the teacher cannot be used; or no view was answered in this machine's number format.
    """
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.yolo.hardware import hardware
    from kd_steps.adapters.yolo.teach.answering import asked_teacher, view_source
    from kd_steps.core.cache.answer_errors import largest
    from kd_steps.jobs.cache_filling import more_weight_files
    from kd_steps.jobs.cache_setting import cache_setting
    from kd_steps.jobs.chain import params_of_assistant
    from kd_steps.params import load_params

    params, place = load_params(), _place(assistant)
    if assistant is not None:
        params = params_of_assistant(params, assistant)
    elif params.distill.answers == "ema":
        raise ValueError(f"{place}: distill.answers is ema: the student is its own teacher and needs no cache")
    folder = MODELS / params.distill.teacher
    made_of = cache_setting(params, load_prepared(), folder)
    header, keys, more = made_of.header, made_of.keys, more_weight_files(params, made_of.sidecar)
    cache, precision = TeacherCache(place, header, keys), hardware(params).precision.name
    teacher = asked_teacher(_asking_all(params, header), made_of.teacher, header.classes, more)
    views = view_source(params, made_of.data.pictures, made_of.plan, header.augmentation_digest)
    drawn = [keys[number] for number in _drawn(cache, precision, sample, seed)]
    found = list(_compare(cache, teacher, views, drawn, params.cache_logits.batch))
    errors, others = largest([one for one, _ in found]), [name for _, name in found if name]
    return {
        "cache": str(place),
        "teacher": str(folder),
        "views": len(cache),
        "shards": len(cache.shards),
        "precision": precision,
        "views_by_precision": cache.views_by_precision,
        "sample": len(found),
        "seed": seed,
        "largest_error": asdict(errors),
        "limits": LIMITS,
        "other_pixels": others,
        "passed": not others and all(getattr(errors, name) <= limit for name, limit in LIMITS.items()),
    }


def _place(assistant: str | None) -> Path:
    from kd_steps.jobs.chain import CACHES

    return CACHE if assistant is None else CACHES / assistant


def _drawn(cache: TeacherCache, precision: str, sample: int, seed: int) -> list[int]:
    """Places of a sample of the keys that were answered in a number format, in order."""
    import numpy as np

    known = [place for place in range(len(cache)) if cache.precision(place) == precision]
    if not known:
        raise ValueError(
            f"{cache.folder}: every shard has the bytes as written, but all views were answered in "
            f"{', '.join(cache.views_by_precision)}, and this machine answers in {precision}: verify them on one that "
            "answers as they were"
        )
    return sorted(np.random.default_rng(seed).permutation(known)[:sample].tolist())


def _asking_all(params: Params, header: CacheHeader) -> Params:
    """Parameters with which a teacher's answer has every anchor."""
    everything = {"score_threshold": 0.0, "max_anchors": sum(header.cells)}
    return params.model_copy(update={"cache_logits": params.cache_logits.model_copy(update=everything)})


def _compare(
    cache: TeacherCache, teacher: Teacher, views: ViewDataset, keys: Sequence[ViewOfImage], batch: int
) -> Iterator[tuple[AnswerErrors, str]]:
    """The errors of each view's targets, and the view's name where its pixels are others than the teacher saw."""
    import torch

    from kd_steps.core.cache.answer_errors import target_errors
    from kd_steps.core.detect.views import pixel_hash

    header, places = cache.header, {image.digest: place for place, image in enumerate(views.images)}
    for start in range(0, len(keys), batch):
        part = keys[start : start + batch]
        drawn = [views.view(places[key.image], key.view) for key in part]
        pixels = torch.stack([one["img"] for one in drawn])
        answers = teacher.targets(pixels, [pixel_hash(one) for one in pixels.numpy()])
        for key, now in zip(part, answers, strict=True):
            stored, kept = cache.targets(key.image, key.view), cache.sample(key.image, key.view)
            same = stored.pixel_hash == now.pixel_hash and (kept is None or pixel_hash(kept[0]) == stored.pixel_hash)
            name = "" if same else f"{views.images[places[key.image]].path}: {key.view}"
            yield target_errors(stored, now, header.imgsz_px, header.score_threshold, header.max_anchors), name


def verdict_lines(report: dict[str, Any]) -> list[str]:
    """The report of :func:`verify` in words."""
    errors, limits, others = report["largest_error"], report["limits"], report["other_pixels"]
    formats = {name: count for name, count in report["views_by_precision"].items() if name != report["precision"]}
    elsewhere = ", ".join(f"{count:,} of {name}" for name, count in formats.items())
    neck = ", ".join(f"{what} {errors[what]:.2g}" for what in ("attention", "pooled", "vectors") if errors[what])
    return [
        f"{report['cache']}: {report['shards']} shards with {report['views']:,} views, each with the bytes as written",
        f"{report['sample']} views (seed {report['seed']}) answered again by {report['teacher']}; largest errors:",
        f"  class probability   {errors['class_probability']:.6f} at {errors['anchors']:,} anchors "
        f"(limit {limits['class_probability']:g})",
        f"  box side            {errors['box_side_px']:.4f} px (limit {limits['box_side_px']:g} px)",
        f"  choice of anchors   {errors['kept_score']:.6f} of a score at the cut (limit {limits['kept_score']:g})",
        *([f"  neck, as a share    {neck}"] if neck else []),
        f"  pixels              {report['sample'] - len(others)} of {report['sample']} views have the stored hash",
        *[f"    other pixels: {name}" for name in others],
        *([f"  held to their bytes alone, as answered in another number format: {elsewhere}"] if elsewhere else []),
        "exact" if report["passed"] else f"NOT EXACT; remove {report['cache']} and run `dvc repro` on this machine",
    ]


def info(assistant: str | None = None) -> dict[str, Any]:
    """What lies in the cache of the student, or of an assistant.

    Raises:
        ValueError: there is no cache, or a shard cannot be read.
    """
    from kd_steps.adapters.cache.contents import cache_contents
    from kd_steps.adapters.files import read_json
    from kd_steps.jobs.chain import params_of_assistant
    from kd_steps.params import load_params

    if assistant is not None:
        params_of_assistant(load_params(), assistant)  # refuses a name that is none
    place = _place(assistant)
    contents = cache_contents(place)
    notes = {path.parent: read_json(path) for path in sorted(MODELS.glob("**/sidecar.json"))}
    mine = [folder for folder, note in notes.items() if note["sha256"] == contents.header["teacher_sha256"]]
    teacher = f"{mine[0]} ({notes[mine[0]]['model']})" if mine else None
    return {"cache": str(place), **asdict(contents), "teacher": teacher}


def info_lines(report: dict[str, Any]) -> list[str]:
    """The report of :func:`info` in words."""
    header, views = report["header"], report["views"] or 1
    neck = [
        "attention maps" if header["attention"] else "",
        "pooled channels" if header["pooled"] else "",
        f"vectors of the {header['max_vectors']} best anchors" if header["max_vectors"] else "",
    ]
    branches = "one-to-many and one-to-one branch" if header["two_branches"] else "one branch"
    bins = f"{header['bins']} bins a side" if header["bins"] > 1 else "distances without bins"
    facts = {
        "views": f"{report['views']:,}, {header['imgsz_px']} px wide, of {report['pictures']:,} pictures",
        "plan": f"V = {header['views']} mosaic and {header['closing_views']} closing views, seed {header['seed']}",
        "teacher": f"{report['teacher'] or f'none that lies in {MODELS} now, or several'}, "
        f"sha256 {header['teacher_sha256'][:12]}",
        "answered in": ", ".join(f"{name} ({count:,} views)" for name, count in report["views_by_precision"].items()),
        "head": f"{len(header['cells'])} levels, {sum(header['cells']):,} anchors, {bins}, {branches}",
        "classes": ", ".join(header["classes"]),
        "kept anchors": f"score above {header['score_threshold']:g}, at most {header['max_anchors']}; "
        f"{report['anchors_mean']:.1f} a view, {report['anchors_max']} at most",
        "neck": ", ".join(filter(None, neck)) or "nothing",
        "pixels": "kept: no view is drawn again" if header["pixels"] else "not kept: the student draws each view again",
        "libraries": ", ".join(f"{name} {version}" for name, version in header["library_versions"].items()),
        "digests": f"data {header['dataset_digest'][:12]}, contract {header['contract_digest'][:12]}, "
        f"augmentation {header['augmentation_digest'][:12]}",
        "size": f"{report['bytes']:,} bytes in {report['shards']} shards, {report['bytes'] / views:,.0f} a view:",
    }
    columns = {name: size / views for name, size in report["column_bytes"].items() if size}
    return [
        f"{report['cache']}: a teacher's answers to augmented views",
        *(f"  {name:<13} {fact}" for name, fact in facts.items()),
        *(f"    {name:<16} {size:>10,.1f}" for name, size in sorted(columns.items(), key=lambda c: -c[1])),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kd_steps.jobs.cache_tool", description="Look at the teacher cache."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="check every shard's bytes, and let the teacher answer some views again")
    check.add_argument("--sample", type=_count, default=64, help="views that the teacher answers again (64)")
    check.add_argument("--seed", type=int, default=0, help="of their choice (0)")
    tell = commands.add_parser("info", help="what is in it, and what it takes")
    for command in (check, tell):
        command.add_argument("--assistant", metavar="NAME", help="the cache that this assistant learnt from")
        command.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
