"""A teacher and its views, as ``params.yaml`` describes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG, IterableSimpleNamespace

from kd_steps.adapters.contract_source import current_contract
from kd_steps.adapters.sidecar import WEIGHTS, Sidecar, read_sidecar
from kd_steps.adapters.yolo.hardware import hardware, keep_in_memory
from kd_steps.adapters.yolo.models import load_weights
from kd_steps.adapters.yolo.teach.ensemble import TeacherEnsemble, require_same_heads
from kd_steps.adapters.yolo.teach.teacher import FrozenTeacher, Teacher
from kd_steps.adapters.yolo.views import ViewDataset
from kd_steps.core.data.sample import LabelledImage
from kd_steps.core.detect.ensemble import EnsembleMember
from kd_steps.core.detect.views import ViewPlan
from kd_steps.edge.contract import require_same
from kd_steps.params import Params
from kd_steps.params.cache_logits import AnswerContent


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
