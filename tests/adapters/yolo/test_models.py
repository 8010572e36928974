"""Detectors built, loaded, extended and saved."""

import errno
import os
import zipfile

import pytest
import torch
from pickle_modules import modules_in
from training_fixture import REPOSITORY, SMALL, decided_model

from kd_steps.adapters.files import sha256_of

CLASSES = ["bridge", "missing"]
MOBILENET = str(REPOSITORY / "data/models/mobilenet.yaml")


def picture():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def heads(model, images):
    from kd_steps.adapters.yolo.teach.teacher import distillable_outputs

    found = distillable_outputs(model.eval()(images)[1])
    return [branch for branch in (found.one_to_many, found.one_to_one) if branch is not None]


@pytest.fixture
def weights(tmp_path):
    from kd_steps.adapters.yolo.models import save_weights

    save_weights(decided_model(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_same_seed_same_weights_whatever_was_drawn_before():
    from kd_steps.adapters.yolo.models import ModelScale, build_model

    first = build_model(ModelScale(**SMALL), CLASSES, 3).state_dict()
    torch.rand(100)
    second = build_model(ModelScale(**SMALL), CLASSES, 3).state_dict()
    other = build_model(ModelScale(**SMALL), CLASSES, 4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_same_seed_same_weights_whatever_was_built_before():
    from kd_steps.adapters.yolo.models import build_model

    first = build_model("yolov10n.yaml", CLASSES, 3).state_dict()
    build_model("yolov5n.yaml", CLASSES, 3)  # its head is of another kind, which Ultralytics remembers
    second = build_model("yolov10n.yaml", CLASSES, 3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_mobilenet_student_is_small_separable_and_scales():
    from kd_steps.adapters.yolo.models import ModelScale, build_model, head_geometry, parameter_count

    model = build_model(MOBILENET, CLASSES, 0)
    half = build_model(ModelScale(MOBILENET, 1.0, 0.5, 512), CLASSES, 0)
    assert 0.9e6 < parameter_count(model) < 1.1e6
    assert parameter_count(half) < 0.5 * parameter_count(model)
    assert head_geometry(model).strides_px == (8, 16, 32)
    wide = [m for m in model.model[1:18].modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(wide) > 20
    assert all(conv.groups == conv.in_channels == conv.out_channels for conv in wide), "every spatial one is depthwise"


ROWS = """
nc: 80
backbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]]]
head: [[[0, 1, 2], 1, Detect, [nc]]]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Conv", "Konv", r"cannot build it \(KeyError: 'Konv'\); compare its rows"),
        ("[0, 1, 2]", "[0, 1, 7]", r"cannot build it \(IndexError"),
        ("[16, 3, 2]", "[]", r"cannot build it \(IndexError"),
        ("backbone", "backbones", r"cannot build it \(KeyError: 'backbone'\)"),
        (
            "[[0, 1, 2], 1,",
            "[[0, 2], 1, Concat, [1]], [[1, 3], 1,",
            r"cannot build it \(RuntimeError: Sizes of tensors",
        ),
        ("[[0, 1, 2], 1, Detect, [nc]]", "[-1, 1, Conv, [8, 1]]", r"its last row is a Conv, .* must be a Detect"),
    ],
)
def test_a_model_yaml_that_is_no_detector_is_told(tmp_path, old, new, message):
    from kd_steps.adapters.yolo.models import ArchitectureError, build_model

    path = tmp_path / "own.yaml"
    path.write_text(ROWS)
    build_model(str(path), CLASSES, 0)
    path.write_text(ROWS.replace(old, new))
    with pytest.raises(ArchitectureError, match=rf"own\.yaml: .*{message}"):
        build_model(str(path), CLASSES, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own/gone.yaml", r"own/gone\.yaml: no such model YAML, .*check train_teacher\.model and distill\.model"),
        ("yolo11n-seg.yaml", r"yolo11n-seg\.yaml: its last row is a Segment"),
    ],
)
def test_a_model_yaml_that_is_not_there_or_of_another_task_is_told(name, message):
    from kd_steps.adapters.yolo.models import ArchitectureError, build_model

    with pytest.raises(ArchitectureError, match=message):
        build_model(name, CLASSES, 0)


def test_a_scale_of_our_own_scales():
    from kd_steps.adapters.yolo.models import ModelScale, build_model, head_geometry, parameter_count

    small = build_model(ModelScale(**SMALL), CLASSES, 0)
    wider = build_model(ModelScale(**{**SMALL, "width_multiple": 0.25}), CLASSES, 0)
    assert 2 < parameter_count(wider) / parameter_count(small) < 5
    assert small.names == {0: "bridge", 1: "missing"}
    assert head_geometry(small) == head_geometry(wider)
    assert head_geometry(small).strides_px == (8, 16, 32)
    assert (head_geometry(small).bins, head_geometry(small).end2end) == (16, False)


def test_heads_with_two_branches_are_known():
    from kd_steps.adapters.yolo.models import build_model, head_geometry

    found = head_geometry(build_model("yolo26n.yaml", CLASSES, 0))
    assert (found.bins, found.end2end) == (1, True)


@pytest.mark.parametrize("architecture", [None, "yolov5nu.yaml", "yolov8n-p6.yaml", "yolov10n.yaml", "yolo26n.yaml"])
def test_the_necks_channels_are_those_that_the_head_takes_in(architecture):
    from kd_steps.adapters.yolo.models import build_model, neck_channels
    from kd_steps.adapters.yolo.teach.teacher import distillable_outputs

    model = decided_model() if architecture is None else build_model(architecture, CLASSES, 0)
    with torch.no_grad():
        features = distillable_outputs(model.eval()(picture())[1]).features
    assert neck_channels(model) == tuple(level.shape[1] for level in features)


@pytest.mark.parametrize(("teacher", "levels"), [("yolov8n.yaml", "3 with"), ("yolov8n-p2.yaml", "4 with")])
def test_another_number_of_levels_or_other_strides_are_refused(teacher, levels):
    from kd_steps.adapters.yolo.models import build_model, require_same_geometry

    mine, other = build_model(teacher, CLASSES, 0), build_model("yolov8n-p6.yaml", CLASSES, 0)
    require_same_geometry(mine, mine)
    with pytest.raises(
        ValueError, match=rf"4 levels with strides \(8, 16, 32, 64\) px, the teacher's {levels} .*choose"
    ):
        require_same_geometry(mine, other)


@pytest.mark.parametrize("architecture", [None, "yolo26n.yaml", "yolov10n.yaml", "yolov8n.yaml", MOBILENET])
def test_new_classes_leave_what_is_said_of_the_old_as_it_is(architecture):
    """Their rows to the bit; their logits to rounding, as a wider convolution may sum in another order."""
    from kd_steps.adapters.yolo.models import add_classes, head_geometry

    model = decided_model(architecture=architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    extended = add_classes(model, ["tombstone", "polarity"])
    old, new = heads(model, picture()), heads(extended, picture())
    assert len(old) == len(new) == (2 if head_geometry(model).end2end else 1)
    for was, is_now in zip(old, new, strict=True):
        assert torch.allclose(is_now.class_logits[:, :2], was.class_logits, rtol=1e-5, atol=1e-5)
        assert torch.equal(is_now.boxes, was.boxes)
        assert torch.allclose(is_now.class_logits[:, 2:].sigmoid(), torch.tensor(0.01), atol=1e-6)
    for name, value in extended.state_dict().items():
        assert torch.equal(value[:2] if value.shape != before[name].shape else value, before[name]), name
    assert extended.names == {0: "bridge", 1: "missing", 2: "tombstone", 3: "polarity"}
    assert (extended.model[-1].nc, extended.yaml["nc"]) == (4, 4)
    assert extended.model[-1].no == 4 + 4 * extended.model[-1].reg_max
    assert model.names == {0: "bridge", 1: "missing"}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_new_rows_learn():
    from kd_steps.adapters.yolo.models import add_classes

    extended = add_classes(decided_model(), ["tombstone"]).train()
    extended.requires_grad_()
    outputs = extended(picture())
    outputs["scores"][:, 2].sum().backward()
    rows = [level[-1].weight.grad[2] for level in extended.model[-1].cv3]
    assert all(row.abs().sum() > 0 for row in rows)


def test_saved_weights_are_plain_ultralytics(tmp_path):
    from ultralytics import YOLO

    from kd_steps.adapters.yolo.models import add_classes, save_weights

    path = tmp_path / "weights.pt"
    extended = add_classes(decided_model(), ["tombstone"])
    save_weights(extended, path)
    assert next(extended.parameters()).dtype == torch.float32, "the caller's model is left as it is"
    loaded = YOLO(path)
    assert loaded.names == {0: "bridge", 1: "missing", 2: "tombstone"}
    found = loaded.predict((picture()[0] * 255).byte().permute(1, 2, 0).numpy(), imgsz=64, conf=0.001, verbose=False)
    assert len(found) == 1
    assert not {name for name in modules_in(path) if "kd_steps" in name}
    assert any("ultralytics" in name for name in modules_in(path)), "the scan sees classes"
    save_weights(extended, tmp_path / "again.pt")
    with zipfile.ZipFile(path) as one, zipfile.ZipFile(tmp_path / "again.pt") as two:
        assert [i.CRC for i in one.infolist()] == [i.CRC for i in two.infolist()]


def test_known_weights_load_in_full(weights):
    from kd_steps.adapters.yolo.models import load_weights

    loaded = load_weights(weights, sha256_of(weights))
    assert next(loaded.parameters()).dtype == torch.float32
    (old,), (new,) = heads(decided_model(), picture()), heads(loaded, picture())
    assert torch.allclose(old.class_logits, new.class_logits, atol=0.05), "weights are stored in fp16"


def test_a_missing_file_is_named(tmp_path):
    from kd_steps.adapters.yolo.models import WeightsError, load_weights

    with pytest.raises(WeightsError, match=r"gone\.pt: no such weight file; check the path"):
        load_weights(tmp_path / "gone.pt", "0" * 64)


def test_a_file_that_is_not_pinned_is_refused_before_it_is_opened(weights):
    from kd_steps.adapters.yolo.models import WeightsError, load_weights

    with pytest.raises(
        WeightsError, match=rf"weights\.pt: .*if you trust it, set weights_sha256: {sha256_of(weights)}"
    ):
        load_weights(weights, None)


def test_another_file_than_the_pinned_one_is_refused_before_it_is_opened(tmp_path):
    from kd_steps.adapters.yolo.models import WeightsError, load_weights

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(WeightsError, match=rf"sha256 is [0-9a-f]{{64}}, pinned is {'0' * 64}; fetch the file again"):
        load_weights(tmp_path / "trap.pt", "0" * 64)
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_file_is_told(weights):
    from kd_steps.adapters.yolo.models import WeightsError, load_weights

    weights.write_bytes(weights.read_bytes()[:-2000])
    with pytest.raises(WeightsError, match=r"(?s)weights\.pt: cannot be read .*it may be truncated"):
        load_weights(weights, sha256_of(weights))


def test_something_that_is_no_detector_is_told(tmp_path):
    from ultralytics.nn.tasks import ClassificationModel

    from kd_steps.adapters.yolo.models import WeightsError, load_weights

    path = tmp_path / "classifier.pt"
    torch.save({"model": ClassificationModel("yolo11n-cls.yaml", nc=2, verbose=False), "train_args": {}}, path)
    with pytest.raises(WeightsError, match=r"classifier\.pt: holds a ClassificationModel, not a detector"):
        load_weights(path, sha256_of(path))


def test_a_full_disk_is_the_systems_own_error_and_leaves_the_weights_before(small_disk):
    from kd_steps.adapters.yolo.models import save_weights

    path = small_disk / "weights.pt"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        save_weights(decided_model(), path)
    assert path.read_bytes() == b"before"
    assert [found.name for found in small_disk.iterdir()] == ["weights.pt"]
