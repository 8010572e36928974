"""Stage `distill`: the teacher's cached answers and the labels → a student."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_steps.adapters.files import resumable_folder, write_json
from kd_steps.adapters.training_log import write_losses
from kd_steps.core.schedule import SchedulePhase, weights_at
from kd_steps.params import Params, load_params
from kd_steps.stage_entry import run_stage

if TYPE_CHECKING:
    from kd_steps.adapters.yolo.distiller import Distillation
    from kd_steps.adapters.yolo.models import Detector

FOLDER = Path("models/student")
TEACHER = Path("models/teacher")
CACHE = Path("data/cache")
CURVES = Path("plots/distill.csv")


def main() -> None:
    """Distil the student, or go on where a kill stopped it."""
    from kd_steps.adapters.prepared import load_prepared
    from kd_steps.adapters.sidecar import WEIGHTS, write_sidecar
    from kd_steps.adapters.teacher_cache import CacheKeys, TeacherCache
    from kd_steps.adapters.yolo.answering import cache_header, distillation_plan, trained
    from kd_steps.adapters.yolo.models import parameter_count, require_same_geometry
    from kd_steps.adapters.yolo.recipe import finish, initial_model, model_name, training_run
    from kd_steps.adapters.yolo.training import train

    params, prepared = load_params(), load_prepared()
    section, plan = params.distill, distillation_plan(params)
    sidecar, teacher = trained(params, TEACHER)
    header = cache_header(params, plan, sidecar, teacher, prepared.digest)
    images = prepared.training_pictures()
    cache = TeacherCache(CACHE, header, CacheKeys([image.digest for image in images], plan.all_views()))
    if resumable_folder(FOLDER, {"section": section.model_dump(mode="json"), "cache": header.to_dict()}):
        print("a distillation of this student was stopped here; it goes on from its last epoch")  # noqa: T201
    model = initial_model(section, None, sidecar.classes, params.seed)
    require_same_geometry(teacher, model)
    run = training_run(
        params,
        section,
        model,
        sidecar.classes,
        images,
        prepared.split("val"),
        plan,
        header.augmentation_digest,
        FOLDER,
        distillation_of(params, teacher, cached=cache),
    )
    measured = finish(run, train(run), FOLDER / WEIGHTS)
    write_sidecar(
        FOLDER,
        kind="student",
        model=model_name(section),
        classes=sidecar.classes,
        new_classes=(),
        parameters=parameter_count(model),
        contract=sidecar.contract,
        dataset_digest=prepared.digest,
        training=measured,
        lineage={"teacher_sha256": sidecar.sha256, "cache": header.to_dict()},
    )
    (FOLDER / "fingerprint.json").unlink()
    write_losses(FOLDER / "results.csv", CURVES)
    write_json(Path("metrics/distill.json"), measured)


def distillation_of(params: Params, teacher: Detector, **source: Any) -> Distillation:
    """Terms and schedule as ``params.yaml`` has them.

    Args:
        params: all of ``params.yaml``.
        teacher: the detector that answers.
        source: ``cached`` or ``live`` answers.
    """
    from kd_steps.adapters.yolo.distiller import Distillation
    from kd_steps.adapters.yolo.models import neck_channels
    from kd_steps.core.distillation import TermWeights

    section = params.distill
    phases = [SchedulePhase(name=name, **phase) for name, phase in section.phases.model_dump().items()]
    return Distillation(
        terms=TermWeights(**{field.name: getattr(section, field.name) for field in fields(TermWeights)}),
        weights_at=partial(weights_at, epochs=section.epochs, phases=phases, gamma_epochs=section.gamma_epochs),
        teacher_channels=neck_channels(teacher),
        calibrate_batches=section.calibrate_batches,
        calibrate_share=section.calibrate_share,
        **source,
    )


if __name__ == "__main__":
    run_stage(main)
