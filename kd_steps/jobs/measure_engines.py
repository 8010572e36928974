"""Engines are measured here by the edge package alone; bundles from elsewhere join them where they fit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from kd_steps.adapters.engines.bundles import times_table
from kd_steps.adapters.on_ray import Cluster, on_ray
from kd_steps.core.evaluation.engine_summary import latency_control
from kd_steps.edge.bundle import Bundle, read_bundle
from kd_steps.edge.finding import Finding, Progress, find_in_pictures, joined
from kd_steps.edge.manifest import Manifest, read_manifest
from kd_steps.edge.measure import Timing, measure_engines
from kd_steps.edge.pictures import SPLITS, Picture, picture, pictures_digest
from kd_steps.edge.postprocess import Found
from kd_steps.params.evaluate import Evaluate

HERE = "here"
TEACHER, TEACHER_AGAIN = "teacher", "teacher-again"
PICTURES_A_JOB = 32  # on a cluster: an engine is loaded once for them
LATENCY_ATTEMPTS = 2  # a control that fails once may be chance or a neighbour's burst; twice is the machine


@dataclass(frozen=True)
class Measured:
    """One engine, measured in one place.

    Attributes:
        engine: its name.
        manifest: what it says of itself.
        where: ``here``, or the name of a bundle from elsewhere.
        bundle: what was measured.
    """

    engine: str
    manifest: Manifest
    where: str
    bundle: Bundle

    @property
    def name(self) -> str:
        """The engine's name; of a bundle from elsewhere, with that of the bundle."""
        return self.engine if self.where == HERE else f"{self.engine}@{self.where}"


def read_engines(engines: Path) -> dict[str, Manifest]:
    """Manifests of all engines, the teacher first, the rest by name.

    Raises:
        FileNotFoundError: the teacher's engine is missing.
    """
    folders = sorted(p for p in engines.glob("[!.]*") if p.is_dir() and p.name != TEACHER)
    return {folder.name: read_manifest(folder) for folder in (engines / TEACHER, *folders)}


def measured_here(
    engines: Path,
    manifests: Mapping[str, Manifest],
    bundles: Path,
    images: pd.DataFrame,
    knobs: Evaluate,
    seed: int,
    cluster: Cluster | None = None,
) -> list[Measured]:
    """Measure every engine on this machine; what is measured already is handed over.

    Args:
        engines: folder of the engines' folders.
        manifests: of the engines.
        bundles: folder of their bundles; those of engines that are no longer built go.
        images: columns split and path (complete) of the prepared pictures.
        knobs: how it is measured.
        seed: of the order within the latency rounds.
        cluster: whose nodes look at the pictures, if not this machine alone; latency is always this machine's.
    """
    _drop_stale(bundles, set(manifests))
    places = {engines / name: bundles / name for name in manifests}
    pictures = _pictures(images)
    finding = Finding(knobs.confidence, knobs.nms_iou, knobs.max_detections)
    timing = Timing(
        confidence=knobs.operating_confidence,
        iou=knobs.nms_iou,
        max_detections=knobs.max_detections,
        seed=seed,
        **knobs.latency.model_dump(),
    )

    def measure(places: Mapping[Path, Path], again: bool) -> dict[Path, Bundle]:
        with _Bar() as progress:
            return measure_engines(
                places,
                engines / TEACHER,
                pictures,
                finding,
                timing,
                say=tqdm.write,
                progress=progress.tell,
                latency_again=places if again else (),
                find_all=find_in_pictures if cluster is None else partial(find_on_cluster, cluster),
            )

    found = measure(places, again=False)
    unsteady = {
        folder: places[folder]
        for folder, bundle in found.items()
        if not control_of(bundle, seed)["ok"] and bundle.note.attempts < LATENCY_ATTEMPTS
    }
    if unsteady:
        found |= measure(unsteady, again=True)
    return [Measured(name, manifest, HERE, found[engines / name]) for name, manifest in manifests.items()]


def find_on_cluster(
    cluster: Cluster, engine: Path, pictures: Sequence[Picture], finding: Finding, progress: Progress
) -> Found:
    """Everything an engine finds in pictures, a part of them a job, joined in their order."""
    parts = [pictures[start : start + PICTURES_A_JOB] for start in range(0, len(pictures), PICTURES_A_JOB)]
    found = []
    for part, there in zip(parts, on_ray(partial(_find_part, engine, finding), parts, cluster), strict=True):
        found.append((there, len(part)))
        progress(f"detect {engine.name}", min(len(found) * PICTURES_A_JOB, len(pictures)), len(pictures))
    return joined(found)


def _find_part(engine: Path, finding: Finding, pictures: Sequence[Picture]) -> Found:
    return find_in_pictures(engine, pictures, finding, lambda *_: None, workers=1)


def measured_elsewhere(folder: Path, here: list[Measured]) -> list[Measured]:
    """Bundles from other machines that are of our engines, our pictures and our knobs; the others are told.

    Args:
        folder: holds a folder a bundle.
        here: the same engines as measured on this machine, the teacher first.

    Raises:
        BundleError: a bundle is damaged or of another version.
    """
    found, ours = [], {measured.bundle.note.engine_digest: measured for measured in here}
    for place in sorted(p for p in folder.glob("[!.]*") if p.is_dir()):
        bundle = read_bundle(place)
        mine = ours.get(bundle.note.engine_digest)
        if mine is None:
            tqdm.write(f"warning: {place}: measured an engine that is not here, {bundle.note.engine_digest}: left out")
        elif differing := _differences(bundle, mine.bundle):
            tqdm.write(f"warning: {place}: measured {' and '.join(differing)} than here: left out")
        else:
            found.append(Measured(mine.engine, mine.manifest, place.name, bundle))
    return found


def control_of(bundle: Bundle, seed: int) -> dict[str, Any]:
    """The teacher's second timing against its first: whether the machine was steady."""
    times = times_table(bundle, ("engine", TEACHER, TEACHER_AGAIN))
    return latency_control(times, TEACHER, TEACHER_AGAIN, np.random.default_rng([seed, 1]))


def _differences(bundle: Bundle, mine: Bundle) -> list[str]:
    """What two bundles of one engine were measured with that is not the same."""
    found = [
        (
            "on other pictures",
            pictures_digest(bundle.note.pictures) == pictures_digest(mine.note.pictures),
        ),
        ("against another reference", bundle.note.reference_digest == mine.note.reference_digest),
        ("at other thresholds", _knobs(bundle) == _knobs(mine)),
    ]
    return [what for what, same in found if not same]


def _knobs(bundle: Bundle) -> list[Any]:
    """What decides which detections there are, and how many boxes the timed postprocessing sees."""
    finding, timing = (bundle.note.inputs[part]["knobs"] for part in ("detections", "latency"))
    return [finding, *(timing[name] for name in ("confidence", "iou", "max_detections", "threads"))]


def _pictures(images: pd.DataFrame) -> list[Picture]:
    kept = images[images["split"].isin(SPLITS)]
    return [picture(Path(path), split) for path, split in zip(kept["path"], kept["split"], strict=True)]


def _drop_stale(bundles: Path, engines: set[str]) -> None:
    """Remove bundles of engines that are no longer built, finished or not."""
    bundles.mkdir(parents=True, exist_ok=True)
    for path in bundles.iterdir():
        if path.name not in engines and path.name.removeprefix(".").removesuffix(".unfinished") not in engines:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


class _Bar:
    """A progress bar for each thing that a measurement tells of."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def tell(self, what: str, done: int, count: int) -> None:
        if self._bar is None or self._bar.desc != what:
            self.__exit__()
            self._bar = tqdm(total=count, desc=what)
        self._bar.update(done - self._bar.n)
