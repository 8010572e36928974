"""New parts are taught: shots with labels, and the student's further training on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_steps.adapters.data.part_sets import PartPicture, PartSet
from kd_steps.adapters.files import read_text
from kd_steps.artifacts import paths
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.data.yolo_labels import parse_yolo
from kd_steps.core.distill.schedule import Phase, weights_at
from kd_steps.core.recipe import recipe_of
from kd_steps.edge.contract import canonical_digest
from kd_steps.jobs.fingerprint import Fingerprint, releases, that_count
from kd_steps.jobs.student_training import NOT_OF_THE_TRAINING, TAUGHT
from kd_steps.jobs.train import Fitting, Network, train_once
from kd_steps.params import Params
from kd_steps.params.distill import Distill

if TYPE_CHECKING:
    from kd_steps.adapters.data.reader import PreparedSet
    from kd_steps.adapters.sidecar import Sidecar
    from kd_steps.adapters.yolo.models import Detector
    from kd_steps.adapters.yolo.train.training_run import TrainingRun


def labelled_shots(part: PartSet, classes: Sequence[str]) -> list[LabelledImage]:
    """The pictures of a set, their label numbers translated by class name.

    Objects of withdrawn classes are left out, and so are pictures that show nothing else.

    Raises:
        ValueError: names each file that cannot be used.
    """
    if part.fault is not None:
        raise ValueError(f"{part.folder}: {part.fault}")
    shots = (labelled_shot(picture, part.names, classes, part.withdrawn) for picture in part.pictures)
    return [shot for shot in shots if shot is not None]


def labelled_shot(
    picture: PartPicture, names: Sequence[str], classes: Sequence[str], withdrawn: Sequence[int] = ()
) -> LabelledImage | None:
    """One picture of a set with its labels; None if it shows nothing but withdrawn classes.

    Raises:
        ValueError: the picture or its label file cannot be read, or a line is wrong.
    """
    from kd_steps.adapters.data.images import decode_bgr, measure

    if not picture.label.exists():
        raise ValueError(f"{picture.label}: missing; an empty file says that {picture.path.name} has no objects")
    every, faults = parse_yolo(read_text(picture.label), len(names))
    if faults:
        raise ValueError("; ".join(f"{picture.label}, line {fault.line}: {fault.message}" for fault in faults))
    labels = every.without(withdrawn)
    if len(every.class_ids) and not len(labels.class_ids):
        return None
    data = picture.path.read_bytes()
    facts = measure(data, decode_bgr(data, str(picture.path)), str(picture.path))
    columns = [-1 if place in withdrawn else classes.index(name) for place, name in enumerate(names)]
    return LabelledImage(
        path=picture.path,
        digest=facts.sha256,
        size_wh_px=(facts.width_px, facts.height_px),
        class_ids=np.array(columns, dtype=np.int64)[labels.class_ids],
        boxes_xywh=labels.boxes_cxcywh.astype(np.float32),
    )


def teach(
    params: Params, prepared: PreparedSet, student: Sidecar, classes: Sequence[str], shots: Sequence[LabelledImage]
) -> Mapping[str, Any]:
    """Fine-tune the student on the shots while base pictures are replayed and its old answers held.

    Returns:
        What the training measured.
    """
    made_of = fingerprint(params, prepared, student, classes, shots)
    new_classes = classes[len(student.classes) :]
    network = Network("few_shot", student.model, classes, new_classes, student.contract, student.dataset_digest)
    begin = partial(ready, params, prepared, student, classes, shots)
    return train_once(paths.FEW_SHOT, made_of, network, begin, student.renamed_from)


def fingerprint(
    params: Params, prepared: PreparedSet, student: Sidecar, classes: Sequence[str], shots: Sequence[LabelledImage]
) -> Fingerprint:
    """All that the weights of a student with new parts depend on."""
    section, knobs = few_shot_section(params).flat(), params.cache_logits
    told = canonical_digest([[s.digest, s.class_ids.tolist(), s.boxes_xywh.tolist()] for s in shots])
    asked = {"score_threshold": knobs.score_threshold, "max_anchors": knobs.max_anchors}
    of_student = {name: value for name, value in section.items() if name not in NOT_OF_THE_TRAINING}
    return Fingerprint(
        dataset=prepared.digest,
        contract=student.contract.digest,
        seed=params.seed,
        classes=tuple(classes),
        values=that_count({**of_student, **params.few_shot.model_dump(mode="json", exclude_none=True)}),
        learns_from=student.sha256,
        taught_with={**asked, "shots": told},
        libraries=releases(),
        recipe=recipe_of(*TAUGHT, "few_shot"),
    )


def ready(
    params: Params, prepared: PreparedSet, student: Sidecar, classes: Sequence[str], shots: Sequence[LabelledImage]
) -> Fitting:
    """The training on the shots, and the student that it begins with.

    Raises:
        ValueError: the student's weights are not those of its sidecar, or of another preprocessing contract.
    """
    from kd_steps.adapters.sidecar import WEIGHTS
    from kd_steps.adapters.yolo.models import parameter_count
    from kd_steps.adapters.yolo.teach.answering import trained
    from kd_steps.adapters.yolo.train.training import finish, train

    _, base = trained(params, paths.STUDENT)
    run = few_shot_run(params, prepared, student, base, classes, shots)
    return Fitting(
        fit=lambda: finish(run, train(run), paths.FEW_SHOT / WEIGHTS),
        architecture=run.model.yaml,
        parameters=parameter_count(run.model),
        lineage={**student.lineage, "student_sha256": student.sha256},
    )


def few_shot_section(params: Params) -> Distill:
    """The training of the student as `few_shot` changes it."""
    few = params.few_shot
    own = {} if few.optimizer is None else {"optimizer": few.optimizer}
    return params.distill.changed(
        **own,
        **few.model_dump(include={"epochs", "batch", "lr0", "close_mosaic_fraction", "freeze_layers"}),
        warmup_epochs=1.0,
        val_interval_epochs=few.epochs,
        freeze_blocks=0,
        head_only_epochs=0,
        lr_guard_ratio=0.0,  # what the base student says weighs as much as it is told to
    )


def few_shot_run(
    params: Params,
    prepared: PreparedSet,
    student: Sidecar,
    base: Detector,
    classes: Sequence[str],
    shots: Sequence[LabelledImage],
) -> TrainingRun:
    """The training on new parts.

    Args:
        params: all of ``params.yaml``.
        prepared: the base pictures.
        student: the note of the student.
        base: the student, which answers for the classes it knows.
        classes: its class names, then the new ones.
        shots: pictures of the new parts.
    """
    from kd_steps.adapters.yolo.models import add_classes
    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.adapters.yolo.teach.distiller import Distillation
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan, training_run
    from kd_steps.adapters.yolo.train.training_run import NewPartDraws
    from kd_steps.core.distill.terms import TermWeights

    few, section = params.few_shot, few_shot_section(params)
    phase = Phase(1.0, few.base_distillation_weight / 2, 0.5, 1.0)  # weights_at doubles both
    head_alone = params.cache_logits.model_copy(update={"attention": False, "pooled": False, "max_vectors": 0})
    return training_run(
        params,
        section,
        add_classes(base, classes[len(student.classes) :]),
        classes,
        [*prepared.split("train"), *shots],
        prepared.split("val"),
        fresh_views_plan(section),
        student.contract.augmentation_digest,
        paths.FEW_SHOT,
        Distillation(
            terms=TermWeights(class_weight=1.0, box_weight=1.0, box_temperature=params.distill.terms.box_temperature),
            weights_at=partial(weights_at, epochs=few.epochs, phases={"few_shot": phase}, gamma_epochs=0),
            live=frozen(params, base, head_alone).answer,
        ),
        NewPartDraws(len(shots), few.new_part_share, few.iterations_per_epoch * few.batch),
        keep="last",  # the validation split knows no new class, so its best epoch is the one that learnt least of it
    )
