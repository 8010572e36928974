"""``retort cache verify`` and ``info``: is the teacher cache exact, and what is in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kd_steps.artifacts import paths, read_json
from kd_steps.stage_entry import set_environment

if TYPE_CHECKING:
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.yolo.teach.teacher import Teacher
    from kd_steps.adapters.yolo.views import ViewDataset
    from kd_steps.core.cache.answer_errors import AnswerErrors
    from kd_steps.core.cache.header import CacheHeader
    from kd_steps.core.cache.keys import ViewOfImage
    from kd_steps.params import Params

LIMITS = {"class_probability": 1e-3, "box_side_px": 0.05, "kept_score": 1e-3}  # fields of AnswerErrors


app = typer.Typer(
    help="The teacher cache: is it exact, and what is in it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Assistant = Annotated[str | None, typer.Option(metavar="NAME", help="The cache that this assistant learnt from.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with 1 where the cache is not exact enough or cannot be used."""
    set_environment(Path.cwd())
    app(arguments, prog_name="retort cache")


@app.command("verify")
def run_verify(
    sample: Annotated[int, typer.Option(min=1, help="Views that the teacher answers again.")] = 64,
    seed: Annotated[int, typer.Option(help="Of their choice.")] = 0,
    assistant: Assistant = None,
    as_json: AsJson = False,
) -> None:
    """Check every shard's bytes, and let the teacher answer some stored views again.

    The largest errors of class probability (limit 0.001) and box side (0.05 px) decide, and that the pixels are the
    same. Exit code 1: not exact, or not usable: damaged, unfinished, or of another teacher, data or library.
    """
    _tell(lambda: verify(sample, seed, assistant), verdict_lines, as_json)


@app.command("info")
def run_info(assistant: Assistant = None, as_json: AsJson = False) -> None:
    """Show what the cache was made from, what it holds, and what each column takes."""
    _tell(lambda: info(assistant), info_lines, as_json)


def _tell(look: Callable[[], dict[str, Any]], in_words: Callable[[dict[str, Any]], list[str]], as_json: bool) -> None:
    try:
        with redirect_stdout(sys.stderr):  # of Ultralytics' own lines
            report = look()
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(json.dumps(report, indent=2) if as_json else "\n".join(in_words(report)))
    raise typer.Exit(0 if report.get("passed", True) else 1)


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
    folder = paths.MODELS / params.distill.teacher
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
    return paths.CACHE if assistant is None else paths.assistant_cache(assistant)


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
    from kd_steps.jobs.chain import params_of_assistant
    from kd_steps.params import load_params

    if assistant is not None:
        params_of_assistant(load_params(), assistant)  # refuses a name that is none
    place = _place(assistant)
    contents = cache_contents(place)
    notes = {path.parent: read_json(path) for path in sorted(paths.MODELS.glob(f"**/{paths.SIDECAR}"))}
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
        "teacher": f"{report['teacher'] or f'none that lies in {paths.MODELS} now, or several'}, "
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


if __name__ == "__main__":
    main()
