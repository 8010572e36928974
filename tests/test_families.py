"""Every family of detectors as teacher and student: one short real distillation for each pair.

Both have random but decided weights: the terms have something to say, and eight steps are enough to see the loss fall.
Of heads with a one-to-one branch beside the other: which branch learns from whom, as the weight of one decays.
"""

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch
from family_fixture import DIGEST, EPOCHS, HARD, PLAN, SOFT, Pair, terms_of, training_of, write_families
from pickle_modules import modules_in
from training_fixture import CLASSES, REPOSITORY, decided_model, params_of

from kd_steps.adapters.data.reader import load_prepared
from kd_steps.core.detect.views import View

pytestmark = pytest.mark.slow

MOBILENET = str(REPOSITORY / "data/models/mobilenet.yaml")
NAMES = ("kd_class", "kd_box", "kd_attention", "kd_channel", "kd_feature", "kd_relational")
VIEW = View(closing=False, number=0)
PAIRS = (
    Pair("yolov10n.yaml", "yolov5n.yaml", cached=True),
    Pair("yolov5l.yaml", "yolov5s.yaml", cached=False),
    Pair("yolov8m.yaml", "yolov8n.yaml", cached=True, feature_kind="cwd"),
    Pair("yolo11m.yaml", "yolo11n.yaml", cached=False, precision="bf16"),
    Pair("yolo26s.yaml", "yolo26n.yaml", cached=True),
    Pair("yolo26n.yaml", "yolo11n.yaml", cached=True, feature_kind="pkd"),
    Pair("yolo11n.yaml", MOBILENET, cached=False),
)


@dataclass(frozen=True)
class Distilled:
    """A finished training of a pair.

    Attributes:
        pair: who taught whom.
        live: the live model after the last step, adapters and all.
        model: what the training gave.
        weights: its checkpoint.
        final_judged: whether validation judged the one-to-one branch.
        rows: what was logged, a row an epoch.
        answers: where it came from, ``cached`` and ``live`` → the teacher's answers to ``images``.
        images: a batch of views, float of shape (4, 3, 64, 64).
    """

    pair: Pair
    live: Any
    model: Any
    weights: Path
    final_judged: bool
    rows: list[dict[str, str]]
    answers: dict[str, Any]
    images: torch.Tensor


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_families(tmp_path_factory.mktemp("families") / "project")


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: f"{Path(pair.teacher).stem}-{Path(pair.student).stem}")
def distilled(request, project, tmp_path_factory):
    from kd_steps.adapters.yolo.models import save_weights
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer
    from kd_steps.adapters.yolo.train.training import results_of, train

    pair, folder = request.param, tmp_path_factory.mktemp("pair")
    params = with_precision(params_of(project), pair.precision)
    teacher = decided_model(seed=9, architecture=pair.teacher)
    source = sources(project, params, teacher, folder / "cache")
    chosen = {"cached": source.cache} if pair.cached else {"live": source.teacher.answer}
    run = training_of(project, params, teacher, pair, folder / "student", **chosen)
    trainer = RetortTrainer(run)
    trainer.train()
    model = train(run)  # finished already: this is how its weights are handed on
    save_weights(model, folder / "weights.pt")
    with results_of(run.folder).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, skipinitialspace=True))
    judged = trainer.validator.end2end
    return Distilled(pair, trainer.model, model, folder / "weights.pt", judged, rows, source.answers, source.images)


def with_precision(params, name):
    """Parameters that ask for a precision; a machine without bf16 takes fp32 instead."""
    name = "fp32" if name == "bf16" and not torch.cpu._is_avx512_bf16_supported() else name
    return params.model_copy(update={"compute": params.compute.model_copy(update={"precision": name})})


def sources(project, params, teacher, folder):
    """A filled cache, the frozen teacher, four views, and what both say of them."""
    from kd_steps.adapters.cache.store import TeacherCache
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.sidecar import Sidecar
    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.core.detect.teacher_targets import batch_targets
    from kd_steps.jobs.cache_filling import fill
    from kd_steps.jobs.cache_setting import cache_header

    prepared = load_prepared(project / "data/prepared")
    pictures = prepared.split("train")
    contract = replace(current_contract(params.preprocessing, params.augmentation), augmentation_digest=DIGEST)
    sidecar = Sidecar("teacher", "decided", tuple(CLASSES), (), "t" * 64, 0, contract, prepared.digest, {}, {})
    header = cache_header(params, PLAN, sidecar, teacher, prepared.digest)
    folder.mkdir()
    keys, forwards = fill(params, folder, header, teacher, pictures, PLAN)
    assert forwards == len(pictures)
    cache, live = TeacherCache(folder, header, keys), frozen(params, teacher)
    first = pictures[:4]
    images = torch.stack([torch.tensor(cache.sample(p.digest, VIEW)[0]) for p in first]).float() / 255
    stored = batch_targets([cache.targets(p.digest, VIEW) for p in first])
    answers = {"cached": stored, "live": live.answer(images)}
    return SimpleNamespace(cache=cache, teacher=live, images=images, answers=answers)


def test_the_loss_falls_and_every_term_is_logged(distilled):
    """One thread, AVX2, `tests/bench/family_losses.py`: to 0.27–0.65 in 14 trainings, 26s → 26n to 0.72–0.81 in 4."""
    rows = [{name: float(value) for name, value in row.items()} for row in distilled.rows]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    parts = [name for name in rows[0] if name.startswith("train/")]
    assert [name.removeprefix("train/") for name in parts][-len(NAMES) :] == list(NAMES)
    assert all(row[name] > 0 for row in rows for name in parts), "every part has something to say"
    first, last = ({name: row[name] for name in parts} for row in (rows[0], rows[-1]))
    assert sum(last.values()) < 0.95 * sum(first.values())
    for name in ("cls_loss", "kd_class", "kd_box", "kd_channel", "kd_feature"):
        assert last[f"train/{name}"] < first[f"train/{name}"], name


def test_every_term_reaches_the_first_layers(distilled):
    stem = [*distilled.live.model[0].parameters(), *distilled.live.model[1].parameters()]
    for source, answers in distilled.answers.items():
        terms = terms_of(distilled.live, distilled.images, answers)
        assert tuple(terms) == NAMES
        for name, term in terms.items():
            for gradient in torch.autograd.grad(term, stem, retain_graph=True):
                assert gradient.isfinite().all(), (source, name)
                assert gradient.abs().max() > 0, (source, name)


def test_stored_answers_say_what_the_teacher_says(distilled):
    with torch.no_grad():
        found = {source: terms_of(distilled.live, distilled.images, a) for source, a in distilled.answers.items()}
    stored, live = (distilled.answers[source].neck.pooled for source in ("cached", "live"))
    assert torch.allclose(stored, live, rtol=2**-10, atol=1e-6)
    for name in NAMES[:-1]:  # random teachers find all views alike: what differs is lost in half precision, in the last
        assert found["cached"][name].item() == pytest.approx(found["live"][name].item(), rel=0.02, abs=1e-4), name


def test_validation_judges_the_branch_that_is_exported(distilled):
    from kd_steps.adapters.yolo.export import is_end_to_end

    assert distilled.final_judged == is_end_to_end(distilled.weights)


def test_only_the_student_is_exported(distilled, tmp_path):
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    from kd_steps.adapters.yolo.export import export_onnx

    plain = DetectionModel(distilled.pair.student, nc=len(CLASSES), verbose=False)
    assert type(distilled.model) is DetectionModel
    assert not [name for name in modules_in(distilled.weights) if "kd_steps" in name]
    loaded = YOLO(distilled.weights).model.float()
    assert shapes(distilled.model) == shapes(loaded) == shapes(plain)
    for name, value in loaded.state_dict().items():
        assert torch.allclose(value, distilled.model.state_dict()[name], rtol=1e-3, atol=1e-4), name
    export_onnx(distilled.weights, tmp_path / "student.onnx", 64, 17)
    head = plain.model[-1]
    head.end2end = hasattr(head, "one2one_cv2")  # as it is exported; fusing then drops the other branch
    convolutions = [m for m in plain.eval().fuse(verbose=False).modules() if isinstance(m, torch.nn.Conv2d)]
    assert parameters_in(tmp_path / "student.onnx") == sum(w.numel() for m in convolutions for w in m.parameters())


def shapes(model):
    return {name: value.shape for name, value in model.state_dict().items()}


def parameters_in(path):
    """How many weights and biases the convolutions of an ONNX graph have; no other layer has any."""
    graph = onnx.load(path).graph
    sizes = {stored.name: math.prod(stored.dims) for stored in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    return sum(sizes.get(name, 0) for node in nodes for name in node.input[1:])


def in_training(project, folder, teacher, student):
    """A live model with its soft loss before the first step, and a batch."""
    from kd_steps.adapters.yolo.teach.answering import frozen
    from kd_steps.adapters.yolo.train.trainer import RetortTrainer

    params, detector = params_of(project), decided_model(seed=9, architecture=teacher)
    source = frozen(params, detector)
    pair = Pair(teacher, student, cached=False)
    trainer = RetortTrainer(training_of(project, params, detector, pair, folder, live=source.answer))
    trainer.setup_model()
    trainer.model.args = trainer.args
    batch = {
        "img": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.6, 0.3, 0.2]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
    }
    return trainer.model.train().requires_grad_(), trainer.spec.soft_loss, batch


@pytest.mark.parametrize("student", ["yolov10n.yaml", "yolo26n.yaml"])
@pytest.mark.parametrize("teacher", ["yolov10n.yaml", "yolo26n.yaml", "yolo11n.yaml"])
def test_the_final_branch_learns_from_a_teacher_that_has_one(project, tmp_path, teacher, student):
    live, distillation, batch = in_training(project, tmp_path, teacher, student)
    terms = terms_of(live, batch["img"], distillation.live(batch["img"]))
    head = live.model[-1]
    for name, term in terms.items():
        for branch, of in (("one2one_cv2", "kd_box"), ("one2one_cv3", "kd_class")):
            weights = list(getattr(head, branch).parameters())
            gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            if name == of and teacher != "yolo11n.yaml":
                assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients), name
            else:
                assert all(gradient is None for gradient in gradients), (name, branch)


@pytest.mark.parametrize("architecture", ["yolov10n.yaml", "yolo26n.yaml"])
def test_the_teachers_terms_stay_as_the_label_loss_of_the_many_branch_decays(project, tmp_path, architecture):
    live, _, batch = in_training(project, tmp_path, architecture, architecture)
    live.soft_loss.start_epoch(0, live, live.precision)
    stem = live.model[0].conv.weight

    def gradient(weights):
        live.soft_loss.weights = weights
        return torch.autograd.grad(live.loss(batch)[0].sum(), stem)[0]

    live.criterion = live.init_criterion()
    share, soft, hard = live.criterion.o2m, gradient(SOFT), gradient(HARD)
    for _ in range(EPOCHS):
        live.criterion.update()
    assert live.criterion.o2m < 0.2 * share
    assert soft.abs().max() > 0
    assert torch.allclose(gradient(SOFT), soft, rtol=1e-4, atol=1e-4 * soft.abs().max())
    assert gradient(HARD).norm() < 0.2 * hard.norm()
