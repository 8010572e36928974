"""One student's training: of `distill`, of each assistant, and of the student without a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_steps.core.distill.schedule import weights_at
from kd_steps.edge.contract import canonical_digest
from kd_steps.jobs.resumable import train_once
from kd_steps.params import Params

if TYPE_CHECKING:
    from kd_steps.adapters.data.reader import PreparedSet, TrainingSet
    from kd_steps.adapters.sidecar import Kind, Sidecar
    from kd_steps.adapters.yolo.models import Detector
    from kd_steps.adapters.yolo.teach.distiller import Distillation
    from kd_steps.core.detect.views import ViewPlan
    from kd_steps.edge.contract import PreprocessingContract

NOT_OF_THE_TRAINING = {"teacher", "answers", "teacher_choice"}  # keys of `distill` that leave the student as it is


@dataclass(frozen=True)
class Lesson:
    """What a student is taught with.

    Attributes:
        data: what it is trained on.
        distillation: the teacher's side; None: it learns from the labels alone.
        plan: which view an epoch shows.
        contract: how a picture reaches the network.
        lineage: digests of what teaches.
    """

    data: TrainingSet
    distillation: Distillation | None
    plan: ViewPlan
    contract: PreprocessingContract
    lineage: Mapping[str, Any]


def cached_lesson(
    params: Params, prepared: PreparedSet, teacher_folder: Path, cache: Path, student: Detector
) -> Lesson:
    """A teacher whose answers to every view lie in a cache.

    Raises:
        ValueError: the cache is of something else or damaged, or teacher, data and student do not fit.
    """
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.jobs.cache_setting import cache_setting
    from kd_steps.jobs.fit import require_fitting

    made_of = cache_setting(params, prepared, teacher_folder)
    sidecar, teacher = made_of.sidecar, made_of.teacher
    require_fitting(teacher_folder, sidecar, teacher, student, prepared.classes)
    answers = TeacherCache(cache, made_of.header, made_of.keys)
    return Lesson(
        data=made_of.data,
        distillation=distillation_of(params, teacher, cached=answers),
        plan=made_of.plan,
        contract=sidecar.contract,
        lineage={
            "teacher_sha256": sidecar.sha256,
            "taught_by": params.distill.teacher,
            "chain": [*sidecar.lineage.get("chain", []), _link(params.distill.teacher, sidecar)],
            "cache": answers.header.to_dict(),
        },
    )


def _link(name: str, sidecar: Sidecar) -> dict[str, Any]:
    """A network in the chain that ends in a student, with its score on the validation split."""
    score = sidecar.training.get("val_map50_95")
    return {"name": name, "model": sidecar.model, "parameters": sidecar.parameters, "val_map50_95": score}


def own_lesson(params: Params, prepared: PreparedSet, student: Detector) -> Lesson:
    """The student's own moving average as its teacher: no cache, and a new view every epoch."""
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.data.reader import distillation_set, load_unlabelled
    from kd_steps.adapters.yolo.teach.answering import answer_content
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan

    asked = answer_content(params)
    return Lesson(
        data=distillation_set(prepared, load_unlabelled()),
        distillation=distillation_of(params, student, average=asked),
        plan=fresh_views_plan(params.distill),
        contract=current_contract(params.preprocessing, params.augmentation),
        lineage={"taught_by": "ema", "asked": asdict(asked)},
    )


def plain_lesson(params: Params, prepared: PreparedSet) -> Lesson:
    """No teacher: the labels alone, and a new view every epoch."""
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.data.reader import TrainingSet
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan

    contract = current_contract(params.preprocessing, params.augmentation)
    data = TrainingSet(prepared.split("train"), prepared.digest)
    return Lesson(data, None, fresh_views_plan(params.distill), contract, {"taught_by": None})


def train_student(
    params: Params, prepared: PreparedSet, student: Detector, lesson: Lesson, folder: Path, kind: Kind, stage: str
) -> Mapping[str, Any]:
    """Train a student, or go on where a kill stopped it.

    Args:
        params: all of ``params.yaml``; ``distill`` is the student's training.
        prepared: the data.
        student: the detector to train.
        lesson: what it is taught with.
        folder: where weights, results and sidecar go.
        kind: of the sidecar.
        stage: the module that trains it, such as ``kd_steps.distill``.

    Returns:
        What the training measured.
    """
    from kd_steps.adapters.sidecar import WEIGHTS, write_sidecar
    from kd_steps.adapters.yolo.initial import model_name
    from kd_steps.adapters.yolo.models import parameter_count
    from kd_steps.adapters.yolo.train.recipe import training_run
    from kd_steps.adapters.yolo.train.training import finish, train

    section = params.distill
    fingerprint = {
        "section": {k: v for k, v in section.flat().items() if k not in NOT_OF_THE_TRAINING},
        "lesson": dict(lesson.lineage),
        "seed": params.seed,
        "dataset": lesson.data.digest,
        "contract": lesson.contract.digest,
        "architecture": canonical_digest(student.yaml),  # a model YAML may change under its name
    }
    run = training_run(
        params,
        section,
        student,
        prepared.classes,
        lesson.data.pictures,
        prepared.split("val"),
        lesson.plan,
        lesson.contract.augmentation_digest,
        folder,
        lesson.distillation,
    )

    def make() -> None:
        measured = finish(run, train(run), folder / WEIGHTS)
        write_sidecar(
            folder,
            kind=kind,
            model=model_name(section),
            classes=prepared.classes,
            new_classes=(),
            parameters=parameter_count(student),
            contract=lesson.contract,
            dataset_digest=lesson.data.digest,
            training=measured,
            lineage=lesson.lineage,
        )

    return train_once(folder, fingerprint, kind.replace("_", " "), stage, make)


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
