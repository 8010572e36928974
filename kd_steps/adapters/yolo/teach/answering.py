"""A teacher, its views and the header of its cache, as ``params.yaml`` describes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG, IterableSimpleNamespace

from kd_steps.adapters.contract_source import current_contract, release
from kd_steps.adapters.sidecar import WEIGHTS, Sidecar, read_sidecar, voices_beside
from kd_steps.adapters.yolo.hardware import hardware, keep_in_memory
from kd_steps.adapters.yolo.models import head_geometry, load_weights, neck_channels
from kd_steps.adapters.yolo.teach.ensemble import TeacherEnsemble, require_same_heads
from kd_steps.adapters.yolo.teach.teacher import FrozenTeacher, Teacher
from kd_steps.adapters.yolo.views import ViewDataset
from kd_steps.core.cache.header import CacheHeader
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.ensemble import EnsembleMember
from kd_steps.core.detect.views import ViewPlan, plan_views
from kd_steps.core.recipe import recipe_of
from kd_steps.edge.contract import canonical_digest, require_same
from kd_steps.params import Params
from kd_steps.params.cache_logits import AnswerContent

LIBRARIES = ("ultralytics", "torch", "numpy", "opencv-python-headless")  # they make the pixels and the answers


def distillation_plan(params: Params) -> ViewPlan:
    """Which views the distillation will show, and so the teacher must answer."""
    distill, cache = params.distill, params.cache_logits
    return plan_views(distill.epochs, distill.training.close_mosaic_fraction, cache.views, cache.closing_views)


def trained(params: Params, folder: Path) -> tuple[Sidecar, DetectionModel]:
    """A detector that an earlier stage trained, held to its sidecar and to the contract in force.

    Raises:
        ContractMismatchError: it was trained with another contract.
        ValueError: the weight file is not the one its sidecar describes.
    """
    sidecar = read_sidecar(folder)
    require_same(current_contract(params.preprocessing, params.augmentation), sidecar.contract, str(folder))
    model = load_weights(folder / WEIGHTS, sidecar.sha256)
    return sidecar, model


def frozen(params: Params, model: DetectionModel, asked: AnswerContent | None = None) -> FrozenTeacher:
    """A detector that only answers; unless told otherwise, what the cache keeps."""
    machine = hardware(params)
    return FrozenTeacher(model, machine.torch_device, machine.precision, asked or params.cache_logits)


def asked_teacher(
    params: Params, model: DetectionModel, classes: Sequence[str], more_weights: Sequence[Path] = ()
) -> Teacher:
    """Whoever answers for a trained detector: it alone, or all that are to answer as one.

    Args:
        params: all of ``params.yaml``.
        model: the detector.
        classes: its class names.
        more_weights: the weight files of ``cache_logits.more_teachers``, in their order; none: it answers alone.

    Raises:
        WeightsError: a weight file cannot be used.
        EnsembleError: a further teacher's head differs, or it does not know what it is to answer for.
    """
    first = frozen(params, model)
    if not more_weights:
        return first
    teachers, members = [first], [EnsembleMember("the teacher", tuple(classes), 1.0)]
    for section, path in zip(params.cache_logits.more_teachers, more_weights, strict=True):
        other = load_weights(path, section.weights_sha256)
        require_same_heads(model, other, section.weights)
        teachers.append(frozen(params, other))
        members.append(
            EnsembleMember(section.weights, tuple(other.names.values()), section.weight, tuple(section.classes))
        )
    return TeacherEnsemble(teachers, members)


def asked_sha256(params: Params, sidecar: Sidecar) -> str:
    """Names whoever answers: a detector's own sha256, or one over all of several with their voices."""
    voices = voices_beside(params, sidecar)
    return canonical_digest([sidecar.sha256, voices]) if voices else sidecar.sha256


def view_source(params: Params, images: Sequence[LabelledImage], plan: ViewPlan, digest: str) -> ViewDataset:
    """The views of some pictures, without a teacher's answers.

    Args:
        params: all of ``params.yaml``.
        images: the training pictures, ordered by digest.
        plan: which views there are.
        digest: of the augmentation gains.
    """
    gains = IterableSimpleNamespace(**{**vars(DEFAULT_CFG), **params.augmentation.model_dump()})
    return ViewDataset(
        images,
        plan,
        params.seed,
        digest,
        imgsz=params.preprocessing.imgsz_px,
        hyp=gains,
        batch_size=params.cache_logits.batch,
        data={"names": {}, "channels": 3},
        cache="ram" if keep_in_memory(params, len(images)) else None,
    )


def library_versions() -> dict[str, str]:
    """Releases of the libraries that make a view's pixels and a teacher's answers."""
    return {name: release(name) for name in LIBRARIES}


def cache_header(
    params: Params, plan: ViewPlan, teacher: Sidecar, model: DetectionModel, dataset_digest: str
) -> CacheHeader:
    """The header of the cache that this teacher, data, parameters and libraries give."""
    cache, head = params.cache_logits, head_geometry(model)
    imgsz_px = params.preprocessing.imgsz_px
    return CacheHeader(
        teacher_sha256=asked_sha256(params, teacher),
        contract_digest=teacher.contract.digest,
        augmentation_digest=teacher.contract.augmentation_digest,
        dataset_digest=dataset_digest,
        imgsz_px=imgsz_px,
        seed=params.seed,
        views=plan.views,
        closing_views=plan.closing_views,
        classes=teacher.classes,
        bins=head.bins,
        two_branches=head.end2end and not voices_beside(params, teacher),
        cells=tuple((imgsz_px // stride) ** 2 for stride in head.strides_px),
        neck_channels=neck_channels(model),
        **cache.asked(),
        pixels=cache.pixels,
        library_versions=library_versions(),
        recipe=recipe_of("views", "answers"),
    )
