"""Trainings of one detector by another, both with random but decided weights, for tests of families of detectors."""

from dataclasses import dataclass, replace
from functools import partial

from training_fixture import CLASSES, decided_model, write_training_project

from kd_steps.adapters.data.reader import load_prepared
from kd_steps.core.detect.views import ViewPlan
from kd_steps.core.distill.objective import distillation_terms
from kd_steps.core.distill.schedule import EpochWeights
from kd_steps.core.distill.terms import TermWeights

ALL_TERMS = TermWeights(
    class_weight=1.0,
    box_weight=1.0,
    box_temperature=2.0,
    attention_weight=1.0,
    channel_weight=1.0,
    feature_weight=1.0,
    relational_weight=1.0,
)
ASKED = {"attention": True, "pooled": True, "max_vectors": 84, "pixels": True, "batch": 4, "shard_views": 6}
EPOCHS = 4
PLAN = ViewPlan(EPOCHS, 0, 1, 0)  # one view of each picture: the losses of two epochs are of the same pixels
DIGEST = "a" * 64
BOTH, SOFT, HARD = (EpochWeights("all", soft, hard, 2.0) for soft, hard in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0)))


@dataclass(frozen=True)
class Pair:
    """A teacher and a student, and how they are trained.

    Attributes:
        teacher: model YAML.
        student: model YAML.
        cached: whether the training reads stored answers or asks the teacher.
        precision: of both networks.
        feature_kind: formula of the feature term.
    """

    teacher: str
    student: str
    cached: bool
    precision: str = "fp32"
    feature_kind: str = "l2"


def write_families(root):
    """A project whose caches hold all that a term can ask for."""
    return write_training_project(root, cache_logits=ASKED, augmentation={"mosaic": 0.5})


def training_of(project, params, teacher, pair, folder, student_seed=3, **source):
    """The training of a student by a teacher whose answers come from ``source``: ``cached`` or ``live``."""
    from kd_steps.adapters.yolo.models import neck_channels, require_same_geometry
    from kd_steps.adapters.yolo.teach.distiller import Distillation
    from kd_steps.adapters.yolo.train.recipe import training_run

    student = decided_model(seed=student_seed, architecture=pair.student)
    require_same_geometry(teacher, student)
    prepared = load_prepared(project / "data/prepared")
    section = params.distill.changed(epochs=EPOCHS, optimizer="AdamW", lr0=0.003)
    distillation = Distillation(
        terms=replace(ALL_TERMS, feature_kind=pair.feature_kind),
        weights_at=partial(same, weights=BOTH),
        teacher_channels=neck_channels(teacher),
        **source,
    )
    pictures = prepared.split("train"), prepared.split("val")
    return training_run(params, section, student, CLASSES, *pictures, PLAN, DIGEST, folder, distillation)


def same(epoch, weights):
    return weights


def terms_of(live, images, answers, terms=ALL_TERMS):
    """The terms of a batch in training mode and in the training's precision."""
    from kd_steps.adapters.yolo.teach.teacher import distillable_outputs

    with live.precision.autocast(images.device):
        student = distillable_outputs(live.train().forward(live.precision.lay_out(images)))
    return distillation_terms(student, answers, terms, 2.0, live.soft_loss.adapters)
