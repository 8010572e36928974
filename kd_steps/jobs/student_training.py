"""One student's training: of `distill`, of each assistant, and of the student without a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_steps.core.distill.schedule import weights_at
from kd_steps.core.recipe import Part, recipe_of
from kd_steps.jobs.fingerprint import Fingerprint, own_architecture, releases, that_count
from kd_steps.jobs.train import Fitting, Network, finished_sidecar, model_name, train_once
from kd_steps.params import Params

if TYPE_CHECKING:
    from kd_steps.adapters.data.reader import PreparedSet, TrainingSet
    from kd_steps.adapters.sidecar import Kind, Sidecar
    from kd_steps.adapters.yolo.models import Detector
    from kd_steps.adapters.yolo.teach.distiller import Distillation
    from kd_steps.core.detect.views import ViewPlan
    from kd_steps.edge.contract import PreprocessingContract

NOT_OF_THE_TRAINING = {"teacher", "answers", "teacher_choice"}  # keys of `distill` that leave the student as it is
TAUGHT: tuple[Part, ...] = ("views", "training", "answers", "distillation")


@dataclass(frozen=True)
class Taught:
    """Who teaches a student, once it is there to be taught.

    Attributes:
        distillation: the teacher's side; None: the student learns from the labels alone.
        plan: which view an epoch shows.
        lineage: digests of what teaches.
    """

    distillation: Distillation | None
    plan: ViewPlan
    lineage: Mapping[str, Any]


@dataclass(frozen=True)
class Lesson:
    """What a student is taught with, before any network is built.

    Attributes:
        data: what it is trained on.
        teach: gives a student its teacher; raises where the two do not fit.
        learns_from: sha256 of the teacher's weights, or None.
        renamed_from: sha256 of the weight files that are the teacher's but for the names of its classes.
        taught_with: what the teacher is asked.
        recipe: the parts of the recipe that make it.
    """

    data: TrainingSet
    teach: Callable[[Detector], Taught]
    learns_from: str | None
    renamed_from: tuple[str, ...]
    taught_with: Mapping[str, Any]
    recipe: tuple[Part, ...]


@dataclass(frozen=True)
class Learner:
    """A student as its teacher is judged by it.

    Attributes:
        parameters: number of weights.
        build: gives its network with fresh weights; dear, so asked only where its size does not tell enough.
    """

    parameters: int
    build: Callable[[], Detector]


def cached_lesson(params: Params, prepared: PreparedSet, teacher_folder: Path, cache: Path) -> Lesson:
    """A teacher whose answers to every view lie in a cache.

    ``teach`` raises a ValueError where the cache is of something else or damaged, or teacher, data and student do not
    fit.

    Raises:
        FileNotFoundError, ValueError: the teacher is not there in full.
    """
    from kd_steps.adapters.data.reader import distillation_set, load_unlabelled
    from kd_steps.adapters.sidecar import read_sidecar, voices_beside
    from kd_steps.jobs.cache_setting import distillation_plan

    plan, knobs, sidecar = distillation_plan(params), params.cache_logits, read_sidecar(teacher_folder)
    taught_with = {
        **knobs.asked(),
        "views": plan.views,
        "closing_views": plan.closing_views,
        "voices": voices_beside(params, sidecar),
    }
    teach = partial(_from_cache, params, prepared, teacher_folder, cache)
    data = distillation_set(prepared, load_unlabelled())
    return Lesson(data, teach, sidecar.sha256, sidecar.renamed_from, taught_with, TAUGHT)


def _from_cache(params: Params, prepared: PreparedSet, teacher_folder: Path, cache: Path, student: Detector) -> Taught:
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.jobs.cache_setting import cache_setting
    from kd_steps.jobs.fit import require_fitting

    made_of = cache_setting(params, prepared, teacher_folder)
    sidecar, teacher = made_of.sidecar, made_of.teacher
    require_fitting(teacher_folder, sidecar, teacher, student, prepared.classes)
    answers = TeacherCache(cache, made_of.header, made_of.keys)
    lineage = {
        "teacher_sha256": sidecar.sha256,
        "taught_by": params.distill.teacher,
        "chain": [*sidecar.lineage.get("chain", []), _link(params.distill.teacher, sidecar)],
        "cache": answers.header.to_dict(),
    }
    return Taught(distillation_of(params, teacher, cached=answers), made_of.plan, lineage)


def _link(name: str, sidecar: Sidecar) -> dict[str, Any]:
    """A network in the chain that ends in a student, with its score on the validation split."""
    score = sidecar.training.get("val_map50_95")
    return {"name": name, "model": sidecar.model, "parameters": sidecar.parameters, "val_map50_95": score}


def own_lesson(params: Params, prepared: PreparedSet) -> Lesson:
    """The student's own moving average as its teacher: no cache, and a new view every epoch."""
    from kd_steps.adapters.data.reader import distillation_set, load_unlabelled

    data = distillation_set(prepared, load_unlabelled())
    return Lesson(data, partial(_by_its_average, params), None, (), params.cache_logits.asked(), TAUGHT)


def _by_its_average(params: Params, student: Detector) -> Taught:
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan

    asked = params.cache_logits
    lineage = {"taught_by": "ema", "asked": asked.asked()}
    return Taught(distillation_of(params, student, average=asked), fresh_views_plan(params.distill), lineage)


def plain_lesson(params: Params, prepared: PreparedSet) -> Lesson:
    """No teacher: the labels alone, and a new view every epoch."""
    from kd_steps.adapters.data.reader import TrainingSet

    data = TrainingSet(prepared.split("train"), prepared.digest)
    return Lesson(data, partial(_by_labels, params), None, (), {}, ("views", "training"))


def _by_labels(params: Params, student: Detector) -> Taught:
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan

    return Taught(None, fresh_views_plan(params.distill), {"taught_by": None})


def student_of(params: Params, prepared: PreparedSet, lesson: Lesson, folder: Path) -> Learner:
    """A student's size: told by its note once it is trained, else by its network."""
    from kd_steps.adapters.contract_source import current_contract

    @cache
    def build() -> Detector:
        from kd_steps.adapters.yolo.initial import initial_model

        return initial_model(params.distill, None, prepared.classes, params.seed)

    contract = current_contract(params.preprocessing, params.augmentation)
    made_of = fingerprint(params, prepared, lesson, contract)
    if sidecar := finished_sidecar(folder, made_of, prepared.classes):
        return Learner(sidecar.parameters, build)
    from kd_steps.adapters.yolo.models import parameter_count

    return Learner(parameter_count(build()), build)


def train_student(params: Params, prepared: PreparedSet, lesson: Lesson, folder: Path, kind: Kind) -> Mapping[str, Any]:
    """Train a student, or go on where a kill stopped it, or hand over the finished one.

    Args:
        params: all of ``params.yaml``; ``distill`` is the student's training.
        prepared: the data.
        lesson: what it is taught with.
        folder: where weights, results and sidecar go.
        kind: of the sidecar.

    Returns:
        What the training measured.

    Raises:
        ValueError: student, teacher and data do not fit.
    """
    from kd_steps.adapters.contract_source import current_contract

    contract = current_contract(params.preprocessing, params.augmentation)
    made_of = fingerprint(params, prepared, lesson, contract)
    network = Network(kind, model_name(params.distill), prepared.classes, (), contract, lesson.data.digest)
    begin = partial(ready, params, prepared, lesson, folder, contract.augmentation_digest)
    return train_once(folder, made_of, network, begin, lesson.renamed_from)


def fingerprint(params: Params, prepared: PreparedSet, lesson: Lesson, contract: PreprocessingContract) -> Fingerprint:
    """All that a student's weights depend on."""
    section = params.distill
    return Fingerprint(
        dataset=lesson.data.digest,
        contract=contract.digest,
        seed=params.seed,
        classes=prepared.classes,
        values=that_count({k: v for k, v in section.flat().items() if k not in NOT_OF_THE_TRAINING}),
        architecture=own_architecture(section.model),
        learns_from=lesson.learns_from,
        taught_with=dict(lesson.taught_with),
        libraries=releases(),
        recipe=recipe_of(*lesson.recipe),
    )


def ready(params: Params, prepared: PreparedSet, lesson: Lesson, folder: Path, augmentation_digest: str) -> Fitting:
    """A student's training, and its teacher with it.

    Raises:
        ValueError: student, teacher and data do not fit.
    """
    from kd_steps.adapters.sidecar import WEIGHTS
    from kd_steps.adapters.yolo.initial import initial_model
    from kd_steps.adapters.yolo.models import parameter_count
    from kd_steps.adapters.yolo.train.recipe import training_run
    from kd_steps.adapters.yolo.train.training import finish, train

    student = initial_model(params.distill, None, prepared.classes, params.seed)
    taught = lesson.teach(student)
    run = training_run(
        params,
        params.distill,
        student,
        prepared.classes,
        lesson.data.pictures,
        prepared.split("val"),
        taught.plan,
        augmentation_digest,
        folder,
        taught.distillation,
    )
    return Fitting(
        fit=lambda: finish(run, train(run), folder / WEIGHTS),
        architecture=student.yaml,
        parameters=parameter_count(student),
        lineage=taught.lineage,
    )


def distillation_of(params: Params, teacher: Detector, **source: Any) -> Distillation:
    """Terms and schedule as ``params.yaml`` has them.

    Args:
        params: all of ``params.yaml``.
        teacher: the detector that answers.
        source: ``cached`` or ``live`` answers, or what the ``average`` is asked.
    """
    from kd_steps.adapters.yolo.models import neck_channels
    from kd_steps.adapters.yolo.teach.distiller import Distillation
    from kd_steps.core.distill.lr_guard import LearningRateGuard

    section = params.distill
    guard = LearningRateGuard(section.lr_guard_ratio, section.lr_guard_factor, section.lr_guard_floor)
    return Distillation(
        terms=section.terms,
        weights_at=partial(
            weights_at, epochs=section.epochs, phases=section.phases.by_name(), gamma_epochs=section.gamma_epochs
        ),
        teacher_channels=neck_channels(teacher),
        calibrate_batches=section.calibrate_batches,
        calibrate_share={f"kd_{name}": share for name, share in section.calibrate_share.items()},
        guard=guard if section.lr_guard_ratio else None,
        **source,
    )
